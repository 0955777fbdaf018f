"use strict";
// Writing into the document without replacing what is there: a node is made once, kept under its key, and changed only
// where its text changes, so that a refresh moves neither focus nor selection nor the pointer's target.
//
// Text goes in as text, never as markup: names of models and of much else come from strangers.

const at = id => document.getElementById(id);

/** element("div", "class", child…) */
function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Sets a node's text, title and class where they differ. */
function put(node, content, title = "", className) {
  const shown = String(content);
  if (node.textContent !== shown) node.textContent = shown;
  if (node.title !== title) node.title = title;
  if (className !== undefined && node.className !== className) node.className = className;
}

/** A node's only child that `make` made the first time. */
function part(node, make) {
  if (!node.firstElementChild) node.replaceChildren(make());
  return node.firstElementChild;
}

/**
 * Makes the children of `parent` those of `items`, in their order: `make(item)` for a new key, `update(node, item)` for
 * each, and no node moves that is in its place already.
 */
function keyed(parent, items, keyOf, make, update) {
  const before = parent.nodesByKey ?? new Map();
  const after = new Map();
  for (const item of items) {
    let key = String(keyOf(item));
    // Two of one key must not share a node.
    while (after.has(key)) key += "\u0000";
    const node = before.get(key) ?? make(item);
    before.delete(key);
    after.set(key, node);
    update(node, item);
  }
  for (const node of before.values()) node.remove();
  let place = parent.firstChild;
  for (const node of after.values()) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  parent.nodesByKey = after;
}
