"""How a report looks: one sheet for the screen, light and dark, wide and narrow, and for paper."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --raised: #ffffff; --sunken: #eef0f3; --line: #e3e6eb; --line-strong: #c5cbd5;
  --text: #171b22; --text-soft: #4b5563; --text-faint: #5f6b7c; --accent: #2459d6;
  --good: #187a48; --good-soft: #e2f4ea; --bad: #b3261e; --bad-soft: #fdeceb; --idle-soft: #e9ecf1;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1218; --raised: #171b23; --sunken: #11151c; --line: #272d38; --line-strong: #3c4554;
    --text: #e9ecf2; --text-soft: #b3bccb; --text-faint: #97a1b3; --accent: #85aaff;
    --good: #5fce92; --good-soft: #12301f; --bad: #ff8d84; --bad-soft: #3b1715; --idle-soft: #242a35;
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans",
  "DejaVu Sans", sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
main { max-width: 980px; margin: 0 auto; padding: 40px 24px 64px; display: grid; gap: 24px; }
main > * { min-width: 0; }
h1, h2, h3, p, ul, dl, dd, figure, pre { margin: 0; }
h1 { font-size: 28px; line-height: 1.2; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 19px; line-height: 1.3; }
h3 { font-size: 15px; line-height: 1.4; }
code, pre { font-family: var(--mono); font-size: 0.88em; }
code { overflow-wrap: anywhere; }
a { color: var(--accent); text-underline-offset: 2px; }
.eyebrow { color: var(--text-faint); font-size: 13px; margin-bottom: 4px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 8px; color: var(--text-soft); font-size: 14px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; list-style: none; font-size: 14px; }
section { display: grid; gap: 16px; padding: 24px; background: var(--raised); border: 1px solid var(--line); border-radius: 12px; }
section > * { min-width: 0; }
section > p, section > ul { max-width: 74ch; }
.quiet { color: var(--text-faint); font-size: 13.5px; }
ul { padding-left: 20px; display: grid; gap: 6px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; }
.tile { padding: 14px 16px; background: var(--sunken); border-radius: 10px; }
.tile .label { color: var(--text-faint); font-size: 13px; }
.tile .value { font-size: 26px; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; }
.tile .note { color: var(--text-soft); font-size: 13px; line-height: 1.45; }
.finding { padding: 12px 16px; border-left: 4px solid var(--line-strong); border-radius: 4px 10px 10px 4px; background: var(--idle-soft); }
.finding.good { border-color: var(--good); background: var(--good-soft); }
.finding.bad { border-color: var(--bad); background: var(--bad-soft); }
.finding p { color: var(--text-soft); }
section > dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 20px; }
dt { color: var(--text-faint); font-size: 13.5px; }
dd { min-width: 0; overflow-wrap: anywhere; }
.table { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { padding: 7px 10px; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line); }
thead th { color: var(--text-faint); font-weight: 550; font-size: 13px; border-bottom-color: var(--line-strong); }
tbody th { font-weight: 500; }
tr.strong th, tr.strong td { font-weight: 650; }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
figure { display: grid; gap: 8px; break-inside: avoid; }
figcaption { color: var(--text-faint); font-size: 13.5px; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
svg.narrow { display: none; }
svg.patterns { position: absolute; width: 0; height: 0; }
svg text { fill: var(--text-soft); }
svg .name { fill: var(--text); }
svg .inside { fill: #ffffff; font-weight: 600; paint-order: stroke; stroke: rgb(0 0 0 / 45%); stroke-width: 2px; }
svg .grid { stroke: var(--line); }
svg .axis { stroke: var(--line-strong); }
svg .hatch { stroke: #ffffff; stroke-width: 2.5; opacity: 0.55; }
.exhibit { display: grid; gap: 10px; padding: 14px 16px; border: 1px solid var(--line); border-radius: 10px; break-inside: avoid; }
.exhibit h3 { color: var(--text-soft); font-weight: 550; }
.exhibit dl { display: grid; grid-template-columns: 150px 1fr; gap: 6px 16px; }
.exhibit pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
section > pre { padding: 14px 16px; background: var(--sunken); border-radius: 10px; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 24px 14px 40px; gap: 16px; }
  section { padding: 18px 14px; border-radius: 10px; }
  h1 { font-size: 23px; }
  svg.wide { display: none; }
  svg.narrow { display: block; }
  section > dl, .exhibit dl { grid-template-columns: 1fr; gap: 0; }
  section > dl dd, .exhibit dd { margin-bottom: 8px; }
  table, tbody, tr, th, td { display: block; }
  thead { display: none; }
  tbody tr { padding: 8px 0; border-bottom: 1px solid var(--line-strong); }
  tbody tr:last-child { border-bottom: 0; }
  th, td { padding: 2px 0; border: 0; }
  td { display: flex; justify-content: space-between; gap: 16px; }
  td::before { content: attr(data-label); color: var(--text-faint); font-weight: 400; }
  td.number, .number { text-align: right; white-space: normal; }
  tbody th.number { text-align: left; }
}
@media print {
  :root { color-scheme: light; --ground: #ffffff; --raised: #ffffff; --sunken: #f3f4f6; --line: #dcdfe4; --line-strong: #b4bac4;
    --text: #000000; --text-soft: #333a45; --text-faint: #4b5563; --accent: #000000; --good: #187a48; --good-soft: #eef8f2;
    --bad: #b3261e; --bad-soft: #fdf1f0; --idle-soft: #f3f4f6; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; display: block; }
  nav { display: none; }
  section { display: block; border: 0; padding: 0; margin-top: 18pt; }
  section > * { margin-top: 9pt; }
  h2 { break-after: avoid; }
  tr, .finding, .tiles { break-inside: avoid; }
  svg.wide { display: block; }
  svg.narrow { display: none; }
}
"""
