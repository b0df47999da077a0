/* Delivery times (composer/window.html): a grid of the week in half hours, and the same as rows of hours. */
import { nextKey, notifyChanged, parseJson } from "../console/page.js";

const DAYS = [0, 1, 2, 3, 4, 5, 6];
const HALVES_OF_DAY = 48;
const HALVES_OF_WEEK = 7 * HALVES_OF_DAY;
const MOVES = {
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -48], End: [0, 48],
};
const halvesOf = (clock) => Number(clock.slice(0, 2)) * 2 + (clock.slice(3) === "30" ? 1 : 0);
const clockOf = (half) => `${String(Math.floor(half / 2)).padStart(2, "0")}:${half % 2 ? "30" : "00"}`;
const inOrder = (one, other) => [Math.min(one, other), Math.max(one, other)];
const clamp = (value, most) => Math.max(0, Math.min(most, value));

export const deliveryWindow = () => ({
  rows: [], open: new Set(), focus: { day: 0, half: 18 }, brush: null, start: null,
  clockOf,

  init() {
    const stored = parseJson(this.$refs.stored.value, []);
    this.rows = (Array.isArray(stored) ? stored : []).map((row) => ({ ...row, key: nextKey() }));
    this.computeOpen();
  },

  /* Compute the open half hours from the rows; a row over midnight continues on the next day. */
  computeOpen() {
    const open = new Set();
    this.rows.forEach(({ weekday, from, to }) => {
      const [start, end] = [halvesOf(from), halvesOf(to)];
      const length = end > start ? end - start : HALVES_OF_DAY - start + end;
      for (let n = 0; n < length; n += 1) open.add((weekday * HALVES_OF_DAY + start + n) % HALVES_OF_WEEK);
    });
    this.open = open;
  },

  /* Compute the rows from the painted half hours. */
  computeRows() {
    this.rows = DAYS.flatMap((weekday) => {
      const spans = [];
      for (let half = 0; half < HALVES_OF_DAY; half += 1) {
        if (!this.isOpen(weekday, half)) continue;
        const last = spans.at(-1);
        if (last && last.end === half) last.end += 1;
        else spans.push({ start: half, end: half + 1 });
      }
      return spans.map(({ start, end }) => ({ weekday, from: clockOf(start), to: clockOf(end), key: nextKey() }));
    });
    this.storeRows();
  },

  storeRows() {
    this.$refs.stored.value = JSON.stringify(this.rows.map(({ weekday, from, to }) => ({ weekday, from, to })));
    notifyChanged();
  },

  isOpen(day, half) { return this.open.has(day * HALVES_OF_DAY + half); },

  setHalf(open, day, half, isOpen) {
    if (isOpen) open.add(day * HALVES_OF_DAY + half);
    else open.delete(day * HALVES_OF_DAY + half);
    return open;
  },

  cellAt(event) {
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest(".ob-half");
    if (!cell || !this.$refs.week.contains(cell)) return null;
    return { day: Number(cell.closest("[data-day]").dataset.day), half: Number(cell.dataset.half) };
  },

  startPainting(event) {
    const cell = this.cellAt(event);
    if (!cell || event.button) return;
    event.preventDefault();
    this.brush = !this.isOpen(cell.day, cell.half);
    this.start = { ...cell, before: new Set(this.open) };
    this.focus = cell;
    this.paint(event);
  },

  /* Paint a rectangle from the pointer's start to its position. */
  paint(event) {
    if (this.brush === null) return;
    const cell = this.cellAt(event);
    if (!cell) return;
    const open = new Set(this.start.before);
    const [firstDay, lastDay] = inOrder(this.start.day, cell.day);
    const [first, last] = inOrder(this.start.half, cell.half);
    for (let day = firstDay; day <= lastDay; day += 1) {
      for (let half = first; half <= last; half += 1) this.setHalf(open, day, half, this.brush);
    }
    this.open = open;
  },

  /* The touch became a scroll. */
  cancelPainting() {
    if (this.brush === null) return;
    this.open = this.start.before;
    this.brush = null;
  },

  endPainting() {
    if (this.brush === null) return;
    this.brush = null;
    this.computeRows();
  },

  pressKey(event) {
    const { day, half } = this.focus;
    const isOpen = this.isOpen(day, half);
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      this.open = this.setHalf(new Set(this.open), day, half, !isOpen);
      return this.computeRows();
    }
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    this.focus = { day: clamp(day + move[0], 6), half: clamp(half + move[1], HALVES_OF_DAY - 1) };
    if (event.shiftKey) {
      this.open = this.setHalf(new Set(this.open), this.focus.day, this.focus.half, isOpen);
      this.computeRows();
    }
    this.$nextTick(() => this.$refs.week.querySelector(".ob-half[tabindex='0']")?.focus());
  },

  addRow() {
    const last = this.rows.at(-1);
    const weekday = last ? (last.weekday + 1) % 7 : 0;
    this.rows.push({ weekday, from: last?.from ?? "09:00", to: last?.to ?? "17:00", key: nextKey() });
    this.rowsChanged();
  },
  removeRow(index) {
    this.rows.splice(index, 1);
    this.rowsChanged();
  },
  setWeekdays() {
    this.rows = [0, 1, 2, 3, 4].map((weekday) => ({ weekday, from: "09:00", to: "17:00", key: nextKey() }));
    this.rowsChanged();
  },
  removeAllRows() {
    this.rows = [];
    this.rowsChanged();
  },
  rowsChanged() {
    this.computeOpen();
    this.storeRows();
  },
});
