// Where the console begins.

import { App } from "./app.js";
import { comeBack } from "./session.js";
import { html, render } from "./ui/html.js";

dispatchEvent(new Event("console-begins"));
await comeBack();
render(html`<${App} />`, document.getElementById("console"));
