// A menu with controls below a button.

import { h } from "./dom.js";

// Return an empty menu, which closes when the user presses Escape, or clicks outside of it.
export function menuBox(className = "") {
  const outside = (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  };
  const pressed = (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.firstChild.focus();
  };
  const toggled = () => document[menu.open ? "addEventListener" : "removeEventListener"]("pointerdown", outside);
  const menu = h("details", { class: `menu ${className}`.trim(), onkeydown: pressed, ontoggle: toggled });
  return menu;
}
