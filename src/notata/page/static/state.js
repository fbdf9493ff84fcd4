// The state of the page is its address: `#/<view>/<argument>?<option>=<value>`. So every view can be kept and sent, and
// the back button works.

function stateOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...args] = path.split("/").map(stateDecoded);
  return { view: view || "runs", args, options: Object.fromEntries(new URLSearchParams(query)) };
}

export function hashOf({ view, args = [], options = {} }) {
  const path = [view, ...args].map(encodeURIComponent).join("/");
  const given = Object.entries(options).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

function stateDecoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function currentState() {
  return stateOf(location.hash);
}

// Return the address of another view with the options of this one, some of which may change.
export function linkTo(view, args = [], options = {}) {
  return hashOf({ view, args, options: { ...currentState().options, ...options } });
}

// Change options; null removes one. A change that the back button should not undo (typing, dragging) replaces the entry.
export function setOptions(options, { replaces = false } = {}) {
  const state = currentState();
  goTo(hashOf({ ...state, options: { ...state.options, ...options } }), { replaces });
}

export function goTo(hash, { replaces = false } = {}) {
  if (hash === location.hash) return;
  if (replaces) {
    history.replaceState(null, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = hash;
}

export function onState(call) {
  addEventListener("hashchange", () => call(currentState()));
}

// Lists in options: ids and names may have commas themselves.
export function listOf(text) {
  return text ? text.split(",").map(stateDecoded) : [];
}

export function listText(list) {
  return list.map(encodeURIComponent).join(",");
}
