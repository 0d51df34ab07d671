// Sparklines: how a figure went, as a small line (SVG); where it was unknown the line is broken.

import { html } from "./html.js";

const [WIDTH, HEIGHT] = [96, 24];

/**
 * The lines through the known values, each begun anew after an unknown one.
 * @param {readonly (number | null)[]} values
 * @param {number} length for how many values there is room
 */
function path(values, length) {
  const most = Math.max(1e-9, ...values.map((value) => value ?? 0));
  const step = WIDTH / Math.max(1, length - 1);
  // The newest stands at the right.
  const start = WIDTH - (values.length - 1) * step;
  let isBroken = true;
  return values
    .map((value, at) => {
      if (value === null) {
        isBroken = true;
        return "";
      }
      const x = (start + at * step).toFixed(1);
      const y = (HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1);
      // A single value would be no line: it is drawn as a point.
      const text = isBroken ? `M${x} ${y}h.01` : `L${x} ${y}`;
      isBroken = false;
      return text;
    })
    .join("");
}

/**
 * @param {object} props
 * @param {readonly (number | null)[]} props.values the oldest first
 * @param {number} props.length
 * @param {string} props.label what it says, for those who do not see it
 */
export function Spark({ values, length, label }) {
  return html`<svg
    class="spark"
    role="img"
    aria-label=${label}
    width=${WIDTH}
    height=${HEIGHT}
    viewBox=${`0 0 ${WIDTH} ${HEIGHT}`}
  >
    <path d=${path(values, length)} />
  </svg>`;
}
