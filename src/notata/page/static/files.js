// The files of a run as a tree of folders, with a preview of the chosen one.

import { append, h, replace } from "./dom.js";
import { agoText, counted, sizeText, timeText } from "./format.js";
import { showPreview } from "./preview.js";
import { openPictures } from "./gallery.js";
import { copyButton } from "./values.js";

const FILES_SHOWN = 200; // of one folder at once
const FILES_FILTERED = 12;
const FILES_OPEN = 40; // with at most as many files, the first folders are open

// The files and the preview. `chosen` is called with the key of a file that was chosen.
export class FilesPart {
  constructor(page, id, { chosen }) {
    this.page = page;
    this.id = id;
    this.chosen = chosen;
    this.files = [];
    this.key = "";
    this.open = new Set();
    this.tree = h("div", { class: "tree" });
    this.filter = h("input", {
      type: "search", class: "find", placeholder: "Filter by name", "aria-label": "Filter files", oninput: () => this.fill(),
    });
    this.count = h("p", { class: "faint", role: "status" });
    this.preview = h("section", { class: "preview", "aria-label": "Preview", tabindex: "-1" },
      h("p", { class: "faint" }, "Choose a file to see it here."));
    this.element = h("div", { class: "files" }, h("div", { class: "files-list" }, this.filter, this.count, this.tree), this.preview);
  }

  // Show the files of the run. The tree stays as it is if they are the same.
  update(files) {
    const before = JSON.stringify(this.files);
    if (this.tree.firstChild && JSON.stringify(files) === before) return;
    const current = this.fileOf(this.key);
    this.files = files;
    this.filter.hidden = files.length <= FILES_FILTERED;
    const { scrollTop } = this.tree;
    const focused = this.tree.contains(document.activeElement) ? document.activeElement.dataset.keep : undefined;
    this.fill();
    this.tree.scrollTop = scrollTop;
    if (focused) [...this.tree.querySelectorAll("[data-keep]")].find((one) => one.dataset.keep === focused)?.focus();
    const now = this.fileOf(this.key);
    if (current && now && JSON.stringify(current) !== JSON.stringify(now)) this.show(this.key);
  }

  fileOf(key) {
    return this.files.find((file) => file.key === key);
  }

  fill() {
    const wanted = this.filter.value.trim().toLowerCase();
    if (wanted) {
      const found = this.files.filter((file) => file.key.toLowerCase().includes(wanted));
      this.count.textContent = `${found.length} of ${counted(this.files.length, "file")}`;
      replace(this.tree, this.list(found.map((file) => [file.key, file])));
      return;
    }
    const root = filesTree(this.files);
    if (!this.open.size && this.files.length <= FILES_OPEN) this.open = new Set([...root.folders.keys()].map((name) => `${name}/`));
    this.count.textContent = `${counted(this.files.length, "file")}, ${sizeText(root.size)}`;
    replace(this.tree, this.folder(root));
  }

  // Return the list of a folder: its folders, then its files.
  folder(node) {
    const folders = [...node.folders.values()].map((one) => h("li", {}, this.folderDetails(one)));
    return this.list([...node.files].map((file) => [file.key.slice(node.path.length), file]), folders);
  }

  folderDetails(node) {
    const body = h("div", { class: "tree-children" });
    const fill = () => { if (!body.firstChild) append(body, this.folder(node)); };
    const isOpen = this.open.has(node.path);
    if (isOpen) fill();
    const details = h("details", {
      open: isOpen,
      ontoggle: () => {
        if (details.open) this.open.add(node.path);
        else this.open.delete(node.path);
        if (details.open) fill();
      },
    }, h("summary", { "data-keep": `folder ${node.path}` }, h("span", { class: "tree-name" }, `${node.name}/`),
      h("span", { class: "tree-size" }, `${counted(node.count, "file")}, ${sizeText(node.size)}`)), body);
    return details;
  }

  list(files, before = []) {
    const list = h("ul", {}, before);
    const add = (from) => {
      const until = from + FILES_SHOWN;
      append(list, files.slice(from, until).map(([name, file]) => this.row(name, file)));
      if (files.length <= until) return;
      const more = h("li", {}, h("button", {
        type: "button",
        onclick: () => {
          more.remove();
          add(until);
          list.children[before.length + until].firstElementChild.focus();
        },
      }, `Show more of the remaining ${files.length - until} files`));
      list.append(more);
    };
    add(0);
    return list;
  }

  row(name, file) {
    return h("li", {}, h("button", {
      type: "button", class: "tree-file", "data-keep": `file ${file.key}`, title: file.key,
      "aria-current": file.key === this.key ? "true" : null,
      onclick: () => this.choose(file.key),
    }, h("span", { class: "tree-name" }, name), h("span", { class: "tree-size" }, sizeText(file.size ?? 0))));
  }

  choose(key) {
    this.show(key);
    this.chosen(key);
    if (this.preview.getBoundingClientRect().top > innerHeight * 0.8) this.preview.scrollIntoView({ block: "start" });
  }

  // Show the preview of a file, and mark it in the tree.
  show(key) {
    const file = this.fileOf(key);
    if (!file) return;
    this.key = key;
    for (const button of this.tree.querySelectorAll("[aria-current]")) button.removeAttribute("aria-current");
    const buttons = [...this.tree.querySelectorAll(".tree-file")];
    buttons.find((button) => button.dataset.keep === `file ${key}`)?.setAttribute("aria-current", "true");
    const body = h("div", { class: "preview-body" });
    replace(this.preview, this.head(file), body);
    showPreview(body, this.page, this.id, key);
  }

  head(file) {
    const address = this.page.source.address(this.id, file.key);
    const age = agoText(file.modified, this.page.data.now);
    const enlarge = () => openPictures(this.page, [{ id: this.id, key: file.key }], 0);
    const digest = `SHA-256 ${(file.digest ?? "").slice(0, 12)}…`;
    return h("div", { class: "preview-head" },
      h("h4", {}, file.key),
      h("p", { class: "faint" }, sizeText(file.size ?? 0),
        file.modified && [", ", h("time", { datetime: file.modified, title: timeText(file.modified, true) }, `modified ${age}`)],
        file.digest && [", ", h("span", { class: "mono", title: file.digest }, digest), " ", copyButton(file.digest, "the SHA-256")]),
      h("div", { class: "toolbar" },
        address && h("a", { href: address, download: "" }, "Download"),
        file.kind === "image" && h("button", { type: "button", onclick: enlarge }, "Enlarge")));
  }
}

// Return the tree of folders: each with its path, name, folders, files, and the number and size of all files below it.
function filesTree(files) {
  const root = filesFolder("", "");
  const sorted = [...files].sort((one, other) => filesOrder.compare(one.key, other.key));
  for (const file of sorted) {
    let node = root;
    filesCount(node, file);
    const names = file.key.split("/");
    for (const name of names.slice(0, -1)) {
      if (!node.folders.has(name)) node.folders.set(name, filesFolder(`${node.path}${name}/`, name));
      node = node.folders.get(name);
      filesCount(node, file);
    }
    node.files.push(file);
  }
  return root;
}

const filesOrder = new Intl.Collator("en", { numeric: true });

function filesFolder(path, name) {
  return { path, name, folders: new Map(), files: [], count: 0, size: 0 };
}

function filesCount(node, file) {
  node.count += 1;
  node.size += file.size ?? 0;
}
