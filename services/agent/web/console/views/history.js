// A persona's versions: who changed what and when, the differences, and the way back.

import { parseDiff } from "../diff.js";
import { moment } from "../format.js";
import { api, may } from "../session.js";
import { Button, Empty, Problem } from "../ui/bits.js";
import { html, useEffect, useState } from "../ui/html.js";
import { RollBackDialog } from "./persona_dialogs.js";

export function History({ name, version, changed }) {
  const [versions, setVersions] = useState([]);
  const [error, setError] = useState(null);
  const [compared, setCompared] = useState(null); // {from, to}
  const [back, setBack] = useState(null);
  useEffect(() => {
    setCompared(null);
    api()
      .get(`/personas/${name}/history`)
      .then(({ versions }) => setVersions(versions), setError);
  }, [name, version]);
  return html`<section aria-labelledby="history-title">
    <h2 id="history-title">History</h2>
    <${Problem} error=${error} />
    <table class="list">
      <thead>
        <tr>
          <th scope="col">Version</th>
          <th scope="col">Changed</th>
          <th scope="col">By</th>
          <th scope="col">Source</th>
          <td></td>
        </tr>
      </thead>
      <tbody>
        ${versions.map(
          (one) => html`<tr key=${one.version} data-version=${one.version}>
            <td data-label="Version" class="figure">${one.version}</td>
            <td data-label="Changed">${moment(one.changed)}</td>
            <td data-label="By">${one.by}</td>
            <td data-label="Source">${one.deleted ? "deleted" : one.source}</td>
            <td class="buttons">
              ${one.version > 1 &&
              html`<${Button} kind="quiet" aria-label=${`What changed in version ${one.version}`} onClick=${() =>
                setCompared({ from: one.version - 1, to: one.version })}>Changes<//>`}
              ${one.version !== version &&
              html`<${Button} kind="quiet" aria-label=${`Compare version ${one.version} with now`} onClick=${() =>
                setCompared({ from: one.version, to: version })}>Compare<//>`}
              ${may("admin") &&
              one.version !== version &&
              !one.deleted &&
              html`<${Button} kind="quiet" aria-label=${`Roll back to version ${one.version}`} onClick=${() =>
                setBack(one.version)}>Roll back<//>`}
            </td>
          </tr>`,
        )}
      </tbody>
    </table>
    ${compared && html`<${Difference} key=${`${compared.from} ${compared.to}`} name=${name} ...${compared} />`}
    ${back && html`<${RollBackDialog} name=${name} version=${back} current=${version} done=${changed} close=${() => setBack(null)} />`}
  </section>`;
}

function Difference({ name, from, to }) {
  const [lines, setLines] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    api()
      .get(`/personas/${name}/diff?from=${from}&to=${to}`)
      .then((text) => setLines(parseDiff(text)), setError);
  }, []);
  return html`<section aria-labelledby="diff-title">
    <h3 id="diff-title" role="status">From version ${from} to ${to}</h3>
    <${Problem} error=${error} />
    ${lines?.length === 0 && html`<${Empty}>Nothing is different.<//>`}
    ${lines?.length > 0 &&
    html`<div class="wide" tabindex="0" role="group" aria-labelledby="diff-title">
      <table class="diff">
        <tbody>
          ${lines.map(
            (line, at) => html`<tr key=${at} class=${line.kind}>
              <td class="figure" aria-hidden="true">${line.old ?? ""}</td>
              <td class="figure" aria-hidden="true">${line.new ?? ""}</td>
              <td><code>${{ added: "+ ", removed: "- ", same: "  ", hunk: "" }[line.kind]}${line.text}</code></td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>`}
  </section>`;
}
