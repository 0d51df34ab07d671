// Sets the colours before the first paint: the reader's choice, or else the system's.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("leads.theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
