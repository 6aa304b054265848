function (options) {
  "use strict";
  if (!window.PerformanceObserver || !navigator.sendBeacon || Math.random() >= options.sample) return;
  var types = PerformanceObserver.supportedEntryTypes || [];
  var navigation = performance.getEntriesByType("navigation")[0];
  var run = Date.now() + "-" + Math.floor(Math.random() * 1e12);
  var limits = { LCP: [2500, 4000], INP: [200, 500], CLS: [0.1, 0.25], FCP: [1800, 3000], TTFB: [800, 1800] };
  var vitals = {}, sent = {};

  function set(name, value) { vitals[name] = value; }
  function observe(type, each, more) {
    if (types.indexOf(type) < 0) return;
    new PerformanceObserver(function (list) { list.getEntries().forEach(each); })
      .observe(Object.assign({ type: type, buffered: true }, more || {}));
  }

  // Parts of the page load, once the load event is over. A reused connection has no DNS and no handshake.
  function load() {
    var n = performance.getEntriesByType("navigation")[0];
    if (!n || !n.loadEventEnd) return;
    [["DNS", n.domainLookupStart, n.domainLookupEnd], ["CONNECT", n.connectStart, n.connectEnd],
     ["TLS", n.secureConnectionStart, n.secureConnectionStart && n.connectEnd], ["REQUEST", n.requestStart, n.responseStart],
     ["DOWNLOAD", n.responseStart, n.responseEnd], ["LOAD", n.startTime, n.loadEventEnd]].forEach(function (part) {
      if (part[2] > part[1]) set(part[0], part[2] - part[1]);
    });
  }
  if (document.readyState === "complete") setTimeout(load, 0);
  else addEventListener("load", function () { setTimeout(load, 0); });

  if (navigation) set("TTFB", Math.max(navigation.responseStart - (navigation.activationStart || 0), 0));
  observe("paint", function (entry) { if (entry.name === "first-contentful-paint") set("FCP", entry.startTime); });
  observe("largest-contentful-paint", function (entry) { set("LCP", entry.startTime); });

  // Cumulative layout shift: the worst session window (gaps under 1 s, 5 s at most).
  var shift = 0, first = 0, last = 0;
  if (types.indexOf("layout-shift") >= 0) set("CLS", 0);
  observe("layout-shift", function (entry) {
    if (entry.hadRecentInput) return;
    if (shift && entry.startTime - last < 1000 && entry.startTime - first < 5000) shift += entry.value;
    else { shift = entry.value; first = entry.startTime; }
    last = entry.startTime;
    if (shift > vitals.CLS) set("CLS", shift);
  });

  // Interaction to next paint: the worst interaction, one outlier set aside for every fifty.
  var worst = {}, interactions = {}, count = 0;
  observe("event", function (entry) {
    if (!entry.interactionId) return;
    if (!interactions[entry.interactionId]) { interactions[entry.interactionId] = 1; count += 1; }
    worst[entry.interactionId] = Math.max(worst[entry.interactionId] || 0, entry.duration);
    var ranked = Object.keys(worst).sort(function (a, b) { return worst[b] - worst[a]; });
    ranked.slice(10).forEach(function (id) { delete worst[id]; });
    set("INP", worst[ranked[Math.min(ranked.length, 10, Math.floor(count / 50) + 1) - 1]]);
  }, { durationThreshold: 40 });

  function rating(name, value) {
    if (!limits[name]) return undefined;
    return value <= limits[name][0] ? "good" : value <= limits[name][1] ? "needs-improvement" : "poor";
  }
  function send() {
    var beacons = Object.keys(vitals).filter(function (name) { return vitals[name] !== sent[name]; });
    if (!beacons.length) return;
    navigator.sendBeacon(options.url, JSON.stringify(beacons.map(function (name) {
      var value = vitals[name], delta = value - (sent[name] || 0);
      sent[name] = value;
      return {
        name: name, value: value, delta: delta, rating: rating(name, value), id: "v1-" + run + "-" + name,
        navigationType: navigation ? navigation.type.replace("_", "-") : "navigate",
        page: options.page || location.pathname, trace_id: options.trace,
        device: matchMedia("(max-width: 767px)").matches ? "mobile" : "desktop"
      };
    })));
  }
  addEventListener("visibilitychange", function () { if (document.visibilityState === "hidden") send(); });
  addEventListener("pagehide", send);
}
