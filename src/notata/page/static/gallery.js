// The pictures of a run as thumbnails, and one of them large in a dialog.

import { append, h, replace } from "./dom.js";
import { previewImage } from "./preview.js";

const GALLERY_SHOWN = 12;

// Return a grid of pictures; each is read when it comes near the screen. `pictures` are [{id, key, label}].
export function galleryOf(page, pictures) {
  const grid = h("ul", { class: "gallery" });
  const read = (entry) => galleryRead(page, entry.target, pictures[Number(entry.target.dataset.place)]);
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      observer.unobserve(entry.target);
      read(entry);
    }
  }, { rootMargin: "300px" });
  const add = (from, until) => {
    for (let place = from; place < Math.min(until, pictures.length); place += 1) {
      const thumbnail = galleryThumbnail(page, pictures, place);
      grid.append(h("li", {}, thumbnail));
      observer.observe(thumbnail);
    }
  };
  add(0, GALLERY_SHOWN);
  const left = pictures.length - GALLERY_SHOWN;
  const more = left > 0 && h("button", {
    type: "button",
    onclick: () => {
      add(GALLERY_SHOWN, pictures.length);
      more.remove();
      grid.children[GALLERY_SHOWN].firstElementChild.focus();
    },
  }, `Show the remaining ${left}`);
  return h("div", {}, grid, more);
}

function galleryThumbnail(page, pictures, place) {
  const { key, label = key } = pictures[place];
  return h("button", {
    type: "button", class: "thumbnail", "data-place": place, "data-keep": `picture ${label}`, title: label,
    onclick: () => openPictures(page, pictures, place),
  }, h("span", { class: "thumbnail-picture" }), h("span", { class: "thumbnail-name" }, label.replace(/^plots\//, "")));
}

async function galleryRead(page, thumbnail, { id, key }) {
  const place = thumbnail.firstElementChild;
  try {
    const file = await page.source.file(id, key);
    if (file.image) append(place, h("img", { src: file.image, alt: "" }));
    else append(place, file.left_out ? "Left out of this report" : "No preview");
  } catch (error) {
    append(place, error.message);
  }
}

// Show one picture large. The arrow keys go to the others, Escape closes; the focus returns to where it was.
export function openPictures(page, pictures, place) {
  let at = place;
  const picture = h("div", { class: "dialog-picture" });
  const title = h("h3", { id: "dialog-title" });
  const count = h("span", { class: "faint" });
  const download = h("span");
  const move = (step) => { at = (at + step + pictures.length) % pictures.length; show(); };
  const show = async () => {
    const { id, key, label = key } = pictures[at];
    title.textContent = label;
    count.textContent = `${at + 1} of ${pictures.length}`;
    const address = page.source.address(id, key);
    replace(download, address && h("a", { href: address, download: "" }, "Download"));
    replace(picture, h("p", { class: "faint" }, "Reading…"));
    const parts = await galleryLarge(page, id, key, label);
    if (title.textContent === label) replace(picture, parts);
  };
  const dialog = galleryDialog([title, count, download], picture, pictures.length > 1 && move);
  document.body.append(dialog);
  dialog.showModal();
  show();
}

// Return a dialog that leaves the page when it closes. `move` shows another picture; false if there is only one.
function galleryDialog(heading, picture, move) {
  const pressed = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !move) return;
    event.preventDefault();
    move(step);
  };
  const dialog = h("dialog", {
    class: "dialog", "aria-labelledby": "dialog-title", onclose: () => dialog.remove(), onkeydown: pressed,
    onclick: (event) => { if (event.target === dialog) dialog.close(); },
  }, h("div", { class: "dialog-body" },
    h("div", { class: "toolbar" }, heading,
      move && [
        h("button", { type: "button", "aria-label": "Previous picture", onclick: () => move(-1) }, "←"),
        h("button", { type: "button", "aria-label": "Next picture", onclick: () => move(1) }, "→"),
      ],
      h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    picture));
  return dialog;
}

async function galleryLarge(page, id, key, label) {
  try {
    const file = await page.source.file(id, key);
    if (file.image) return previewImage(file.image, label);
    return h("p", { class: "left-out" }, file.left_out ?? "There is no preview of this picture.");
  } catch (error) {
    return h("p", { class: "is-error" }, error.message);
  }
}
