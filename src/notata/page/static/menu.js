// A menu with controls below a button.

import { h } from "./dom.js";

const MENU_EDGE = 6; // pixels between a menu and the edge of the window

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
  const toggled = () => {
    document[menu.open ? "addEventListener" : "removeEventListener"]("pointerdown", outside);
    menuIntoWindow(menu);
  };
  const menu = h("details", { class: `menu ${className}`.trim(), onkeydown: pressed, ontoggle: toggled });
  return menu;
}

// Move the body of an open menu sideways until it is in the window. The menu keeps the distance for a new body.
function menuIntoWindow(menu) {
  const body = menu.querySelector(".menu-body");
  if (!menu.open || !body) return;
  menu.style.setProperty("--moved", "0px");
  const { left, right } = body.getBoundingClientRect();
  const edge = document.documentElement.clientWidth - MENU_EDGE;
  menu.style.setProperty("--moved", `${Math.max(Math.min(0, edge - right), MENU_EDGE - left)}px`);
}
