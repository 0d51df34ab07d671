// Import.
import { html } from "../ui/html.js";
export function Import() { return html`<div class="page"><h1>Import</h1></div>`; }
