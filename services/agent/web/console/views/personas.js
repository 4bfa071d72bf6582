// The personas there are.

import { moment } from "../format.js";
import { address } from "../route.js";
import { api, may } from "../session.js";
import { Problem, Title } from "../ui/bits.js";
import { html, useEffect, useState } from "../ui/html.js";
import { Icon } from "../ui/icons.js";
import { NEW } from "./persona.js";

export function Personas() {
  const [personas, setPersonas] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    api()
      .get("/personas")
      .then(({ personas }) => setPersonas(personas), setError);
  }, []);
  return html`<section>
    <header class="head">
      <${Title}>Personas<//>
      ${may("admin") && html`<a class="button push" href=${address("personas", NEW)}><${Icon} name="add" /><span>New persona</span></a>`}
    </header>
    <${Problem} error=${error} />
    ${personas &&
    html`<table class="list">
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">Version</th>
          <th scope="col">Changed</th>
          <th scope="col">By</th>
          <th scope="col">Source</th>
          <th scope="col">Numbers</th>
        </tr>
      </thead>
      <tbody>
        ${personas.map(
          (one) => html`<tr key=${one.name}>
            <td data-label="Name"><a href=${address("personas", one.name)}>${one.name}</a></td>
            <td data-label="Version" class="figure">${one.version}</td>
            <td data-label="Changed">${moment(one.changed)}</td>
            <td data-label="By">${one.by}</td>
            <td data-label="Source">${one.source}</td>
            <td data-label="Numbers">${one.numbers.join(", ") || "–"}</td>
          </tr>`,
        )}
      </tbody>
    </table>`}
  </section>`;
}
