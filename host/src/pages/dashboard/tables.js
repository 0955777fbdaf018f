"use strict";
// A table that sorts by its heads, keeps its rows over a refresh, and shows the first rows until asked for all.

const ROWS_SHOWN = 10;

class Table {
  /**
   * `options`: `title`, the name of its text; `columns`, see columns.js; `key(row)`; `sort`, `[column, "ascending" or
   * "descending"]`; `empty`, the name of the text for no rows; `filter(row)`, what a click on the row chooses, or null;
   * `chosen(row)`, whether it is chosen already.
   */
  constructor(section, options) {
    this.options = options;
    this.rows = [];
    this.sort = options.sort;
    this.whole = false;
    this.title = element("h2");
    this.title.id = `${section.id}-title`;
    this.count = element("span", "count");
    this.aside = element("span", "aside");
    this.head = element("tr");
    this.body = element("tbody");
    this.none = element("p", "nothing");
    this.more = element("button", "plain more");
    this.more.type = "button";
    this.more.addEventListener("click", () => {
      this.whole = !this.whole;
      this.show();
    });
    const table = element("table", "", element("thead", "", this.head), this.body);
    table.setAttribute("aria-labelledby", this.title.id);
    this.box = element("div", "scroll", table);
    section.append(element("div", "head", this.title, this.count, this.aside), this.box, this.none, this.more);
    for (const column of options.columns) {
      const button = element("button", "", element("span"), element("i", "arrow"));
      button.type = "button";
      button.addEventListener("click", () => this.sortBy(column));
      const head = element("th", column.numeric ? "number" : "", button);
      head.scope = "col";
      head.dataset.column = column.id;
      this.head.append(head);
    }
  }

  update(rows) {
    this.rows = rows;
    this.show();
  }

  /** The first click sorts as the column is mostly read: numbers from the largest, names from the first letter. */
  sortBy(column) {
    const [id, direction] = this.sort;
    const first = column.numeric ? "descending" : "ascending";
    const second = column.numeric ? "ascending" : "descending";
    this.sort = [column.id, id === column.id && direction === first ? second : first];
    this.show();
  }

  sorted() {
    const [id, direction] = this.sort;
    const { value } = this.options.columns.find(column => column.id === id);
    const sign = direction === "ascending" ? 1 : -1;
    const absent = one => one === null || one === undefined || one === "";
    const collator = new Intl.Collator(LOCALES[language], { numeric: true });
    return this.rows
      .map(row => ({ row, sortable: value(row), key: this.options.key(row) }))
      .sort((a, b) => {
        // What is not known comes last, whichever way the rest is sorted.
        if (absent(a.sortable) || absent(b.sortable)) return absent(a.sortable) - absent(b.sortable);
        const order =
          typeof a.sortable === "number" ? a.sortable - b.sortable : collator.compare(a.sortable, b.sortable);
        return sign * order || collator.compare(a.key, b.key);
      })
      .map(({ row }) => row);
  }

  /** Writes everything anew, texts included. */
  show() {
    const { title, columns, empty = "no_rows", key } = this.options;
    put(this.title, text(title));
    put(this.count, this.rows.length > 0 ? exact(this.rows.length) : "");
    columns.forEach((column, index) => {
      const head = this.head.children[index];
      put(head.firstElementChild.firstElementChild, text(column.head));
      head.title = column.title ? text(column.title) : "";
      if (this.sort[0] === column.id) head.setAttribute("aria-sort", this.sort[1]);
      else head.removeAttribute("aria-sort");
    });
    put(this.none, text(empty));
    this.none.hidden = this.rows.length > 0;
    this.box.hidden = this.rows.length === 0;
    const rows = this.sorted();
    // One row more than the bound costs no more height than the button would.
    const foldable = rows.length > ROWS_SHOWN + 1;
    this.more.hidden = !foldable;
    put(this.more, this.whole ? text("show_fewer") : text("show_all", { count: exact(rows.length) }));
    keyed(
      this.body,
      foldable && !this.whole ? rows.slice(0, ROWS_SHOWN) : rows,
      key,
      () => this.makeRow(),
      (node, row) => this.showRow(node, row),
    );
  }

  makeRow() {
    const node = element("tr");
    for (const column of this.options.columns) {
      node.append(element(column.heading ? "th" : "td", column.numeric ? "number" : column.wide ? "wide" : ""));
      if (column.heading) node.lastElementChild.scope = "row";
    }
    node.addEventListener("click", event => {
      const button = event.target.closest("button");
      if ((button && !button.classList.contains("pick")) || String(getSelection()) !== "") return;
      const choice = this.options.filter?.(node.row);
      if (choice) choose(choice);
    });
    return node;
  }

  showRow(node, row) {
    node.row = row;
    const pickable = Boolean(this.options.filter?.(row));
    const picked = Boolean(this.options.chosen?.(row));
    node.className = `${pickable ? "pickable" : ""}${picked ? " picked" : ""}`.trim();
    this.options.columns.forEach((column, index) => {
      const cell = node.children[index];
      if (column.heading && pickable) {
        const button = part(cell, () => Object.assign(element("button", "pick"), { type: "button" }));
        button.setAttribute("aria-pressed", String(picked));
        column.show(button, row);
        const title = picked ? text("clear") : text("filter_by", { name: this.options.key(row) });
        if (button.title !== title) button.title = title;
      } else {
        column.show(cell, row);
      }
    });
  }
}
