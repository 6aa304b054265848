import { describe, expect, it } from "vitest";
import * as f from "./format";

const NOT_KNOWN = [null, undefined, NaN, Infinity];

describe("numbers", () => {
  it.each([
    [0, "0"],
    [0.0042, "0.004"],
    [0.4213, "0.42"],
    [3.14159, "3.14"],
    [42.34, "42.3"],
    [128.4, "128"],
    [9870, "9,870"],
    [12_412, "12.4k"],
    [3_210_000, "3.2M"],
    [4.2e9, "4.2G"],
    [-12.5, "\u221212.5"],
  ])("%d reads %s", (value, text) => expect(f.number(value)).toBe(text));

  it.each(NOT_KNOWN)("%s is unknown, never zero", (value) => {
    for (const shown of [f.number, f.percent, f.duration, f.age, f.bytes, f.relative, f.objective])
      expect(shown(value)).toBe(f.UNKNOWN);
    expect(f.money(value, "EUR")).toBe(f.UNKNOWN);
    expect(f.figure(value, "ratio")).toEqual({ text: f.UNKNOWN, unit: "" });
  });
});

describe("ratios", () => {
  it.each([
    [0, "0 %"],
    [1, "100 %"],
    [0.318, "31.8 %"],
    [0.9931, "99.31 %"],
    [0.99996, "99.996 %"],
    [0.9999999, "99.999 %"],
    [0.0042, "0.42 %"],
  ])("%d reads %s", (value, text) => expect(f.percent(value)).toBe(text));

  it("shows a target as it was written", () => {
    expect(f.objective(0.999)).toBe("99.9 %");
    expect(f.objective(0.9999)).toBe("99.99 %");
  });

  it("compares ratios in percentage points and all else in percent", () => {
    expect(f.points(0.971, 0.967)).toBe("+0.4 pp");
    expect(f.points(0.31, 0.36)).toBe("\u22125.0 pp");
    expect(f.points(0.5, 0.5)).toBe("±0.0 pp");
    expect(f.lastWeek("ratio", 0.018)).toBe("+1.8 pp");
    expect(f.lastWeek("orders/min", -0.64)).toBe("\u221264 %");
    expect(f.lastWeek("orders/min", 0.012)).toBe("+1.2 %");
    expect(f.lastWeek("ratio", null)).toBe(f.UNKNOWN);
  });
});

describe("durations", () => {
  it.each([
    [0, "0 s"],
    [0.00085, "850 µs"],
    [0.0042, "4.2 ms"],
    [0.412, "412 ms"],
    [0.9999, "1 s"],
    [1.236, "1.24 s"],
    [42, "42 s"],
    [59.7, "1 min"],
    [185, "3 min 5 s"],
    [7800, "2 h 10 min"],
    [3599.6, "1 h"],
    [273_600, "3 d 4 h"],
  ])("%d seconds read %s", (value, text) => expect(f.duration(value)).toBe(text));

  it.each([
    [-3, "0 s"],
    [59.9, "59 s"],
    [140, "2 min"],
    [3600, "1 h"],
    [3700, "1 h 1 min"],
    [200_000, "2 d"],
  ])("an age of %d seconds reads %s", (value, text) => expect(f.age(value)).toBe(text));
});

it.each([
  ["2592000s", "30d"],
  ["3600s", "1h"],
  ["5400s", "90m"],
  ["45s", "45s"],
  [300, "5m"],
  ["30d", "30d"],
])("a window of %s reads %s", (window, text) => expect(f.windowText(window)).toBe(text));

describe("money and bytes", () => {
  it.each([
    [3184.2, "EUR", "€3,184"],
    ["1840.00", "EUR", "€1,840"],
    [42.5, "EUR", "€42.50"],
    ["0.00", "EUR", "€0"],
    [1_250_000, "USD", "$1.25M"],
    [-120, "EUR", "\u2212€120"],
    [12, "not a code", "12 not a code"],
    ["", "EUR", "–"],
    ["much", "EUR", "–"],
  ])("%s %s reads %s", (amount, currency, text) => expect(f.money(amount, currency)).toBe(text));

  it("counts bytes in powers of two", () => {
    expect(f.bytes(512)).toBe("512 B");
    expect(f.bytes(1536)).toBe("1.5 KiB");
    expect(f.bytes(3 * 1024 ** 3)).toBe("3 GiB");
  });
});

describe("figures with their unit", () => {
  it.each([
    [42.3, "orders/min", "42.3", "orders / min"],
    [3184.2, "EUR/min", "€3,184", "/ min"],
    [0.971, "ratio", "97.1", "%"],
    [0.41, "s", "410", "ms"],
    [185, "s", "3", "min 5 s"],
    [7, "", "7", ""],
  ])("%d %s", (value, unit, text, shown) => expect(f.figure(value, unit)).toEqual({ text, unit: shown }));

  it("labels axes shortly", () => {
    expect(f.axis(0.5, "ratio")).toBe("50 %");
    expect(f.axis(0.025, "ratio")).toBe("2.5 %");
    expect([0.99, 0.995, 1].map((v) => f.axis(v, "ratio", 0.005))).toEqual(["99.0 %", "99.5 %", "100.0 %"]);
    expect([0.95, 0.975, 1].map((v) => f.axis(v, "ratio", 0.025))).toEqual(["95.0 %", "97.5 %", "100.0 %"]);
    expect(f.axis(0.5, "ratio", 0.25)).toBe("50 %");
    expect(f.axis(0.25, "s")).toBe("250 ms");
    expect(f.axis(60, "s")).toBe("1 min");
    expect(f.axis(12_000, "req/s")).toBe("12k");
  });
});

describe("paths", () => {
  it.each([
    ["/srv/app/examples/shop/shop/views.py", "…/shop/shop/views.py"],
    ["shop/views.py", "shop/views.py"],
    ["/views.py", "/views.py"],
  ])("%s", (path, shown) => expect(f.pathEnd(path)).toBe(shown));
});
