"""The page's style sheet: one column of calm text, pictures as wide as it, light and dark, wide and narrow, paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--bg:#fcfcfb;--card:#ffffff;--ink:#1c2126;--soft:#5b646e;--line:#e4e6e9;--faint:#f3f4f5;
--accent:#0072b2;--alert:#a8410a;--alertbg:#fdf3ec;--plate:#ffffff}
@media screen and (prefers-color-scheme:dark){:root{--bg:#121518;--card:#181c20;--ink:#e7e9ec;--soft:#9aa4ae;
--line:#2b3138;--faint:#1c2125;--accent:#6bb8ea;--alert:#f0a070;--alertbg:#2a1e17;--plate:#15191d}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","Noto Sans","Liberation Sans",Arial,sans-serif;font-variant-numeric:tabular-nums}
main,header,footer{max-width:1160px;margin:0 auto;padding:0 28px}
header{padding-top:56px}
h1{font-size:clamp(1.7rem,4vw,2.5rem);line-height:1.15;letter-spacing:-.022em;font-weight:660;margin:0 0 .35em;
overflow-wrap:anywhere}
h2{font-size:1.4rem;letter-spacing:-.012em;font-weight:640;margin:0 0 .6em}
h3{font-size:1rem;font-weight:640;margin:2.1em 0 .7em}
p{margin:.5em 0;max-width:74ch}
a{color:var(--accent);text-decoration-thickness:1px;text-underline-offset:.18em}
.eyebrow{font-size:.8rem;letter-spacing:.08em;text-transform:uppercase;color:var(--soft);margin:0 0 .7em;
font-weight:600}
.soft{color:var(--soft)}
.small{font-size:.87rem}
.facts{max-width:none}
section,article{margin:56px 0 0}
section+article,article+article{border-top:1px solid var(--line);padding-top:44px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:0;margin:34px 0 0;
border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
.tile{padding:18px 18px 16px 0}
.tile b{display:block;font-size:1.95rem;line-height:1.15;font-weight:620;letter-spacing:-.02em}
.tile b small{font-size:1rem;font-weight:500;color:var(--soft);letter-spacing:0;margin-left:.28em}
.tile span{font-size:.87rem;color:var(--soft)}
.alert{background:var(--alertbg);color:var(--alert);border-radius:8px;padding:12px 16px;margin:24px 0 0;max-width:none}
.alert a{color:inherit}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:20px}
.gallery a{display:block;color:inherit;text-decoration:none;border:1px solid var(--line);border-radius:10px;
background:var(--card);padding:12px 14px;overflow:hidden}
.gallery a:hover{border-color:var(--accent)}
.gallery img{aspect-ratio:4/3;object-fit:contain;margin:0 0 8px}
.gallery b{display:block;font-weight:600;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
img{display:block;width:100%;height:auto}
figure{margin:0}
figcaption{font-size:.87rem;line-height:1.45;color:var(--soft);margin:.6em 0 0}
figcaption b{color:var(--ink);font-weight:620}
.solid img{border-radius:4px}
.three{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:26px 20px;align-items:start;margin-top:26px}
.two{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:26px 28px;align-items:start;margin-top:34px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(250px,1fr));gap:26px 36px;align-items:start}
.chart{width:100%;max-width:400px;height:auto;font-size:12px;display:block}
.chart text{fill:var(--soft)}
.chart .t{fill:var(--ink);font-weight:600;font-size:13px}
.chart .u{fill:var(--soft);font-weight:400}
.chart .e{text-anchor:end}
.chart .c{text-anchor:middle}
.chart .a{stroke:var(--line)}
.chart .s{stroke:var(--soft);stroke-width:1.5}
.chart .m{fill:var(--soft)}
.chart .b{fill:var(--accent);opacity:.75}
.chart .n{fill:var(--soft)}
.chart .f{fill:var(--accent)}
.chart .ln{fill:none;stroke:var(--soft);stroke-width:1.3}
.chart .lf{fill:none;stroke:var(--accent);stroke-width:1.6}
canvas{display:block;width:100%;height:auto;border-radius:4px}
.viewer{margin-top:34px}
.viewer canvas{cursor:grab;touch-action:pan-y}
.viewer canvas:active{cursor:grabbing}
.viewer:not(.live) canvas,.viewer:not(.live) .tools,.viewer:not(.live) .live-only,.live .still{display:none}
.tools{display:flex;flex-wrap:wrap;gap:.3em 1.2em;align-items:center;font-size:.87rem;color:var(--soft);margin:.5em 0 0}
.tools label,.filter label,.looking label{display:inline-flex;gap:.45em;align-items:center;color:var(--ink)}
.tools output{min-width:4.2em;color:var(--ink)}
.tools input[type=range]{width:8.5em;accent-color:var(--accent)}
input,select{font:inherit;accent-color:var(--accent)}
select,input[type=search]{background:var(--card);color:var(--ink);border:1px solid var(--line);border-radius:6px;
padding:3px 8px}
input[type=search]{width:18em;max-width:70vw}
.ramp{display:inline-block;width:7em;height:.7em;vertical-align:middle;background:linear-gradient(90deg,#440154,#414487,
#2a788e,#22a884,#7ad151,#fde725)}
.ramp.bend{background:linear-gradient(90deg,#2166ac,#67a9cf,#f1f1ee,#ef8a62,#b2182b)}
.looking h3 span{margin-left:.8em;font-weight:400}
.filter{font-size:.87rem;margin:.2em 0 .6em;color:var(--soft)}
table[id] th[tabindex]{cursor:pointer}
table[id] th[tabindex]:hover{color:var(--accent)}
th[aria-sort=ascending]::after{content:" ▴"}
th[aria-sort=descending]::after{content:" ▾"}
[hidden]{display:none!important}
.scroll{overflow-x:auto;margin:0 -28px;padding:0 28px}
table{border-collapse:collapse;font-size:.87rem;min-width:min(100%,640px)}
th{text-align:left;font-weight:600;vertical-align:bottom;padding:6px 15px 7px 0;border-bottom:1px solid var(--ink);
line-height:1.25}
th small{display:block;font-weight:400;color:var(--soft)}
td{padding:5px 15px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;max-width:34ch;overflow-wrap:anywhere}
th.n,td.n{text-align:right;white-space:nowrap}
td small{color:var(--soft)}
td.w{min-width:24ch}
td.k{white-space:nowrap}
tr:last-child td{border-bottom:0}
.id{white-space:nowrap}
.sw{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.5em}
figcaption,dt,h2,h3,li,p{overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:fit-content(14em) minmax(0,1fr);gap:.3em 1.4em;font-size:.9rem;margin:.6em 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
ul{padding-left:1.15em;margin:.5em 0;max-width:78ch}
li{margin:.3em 0}
.warn li{overflow-wrap:anywhere}
pre{font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;background:var(--faint);
border-radius:8px;padding:16px 18px;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--accent)}
footer{padding-top:64px;padding-bottom:72px;color:var(--soft);font-size:.87rem}
@media (max-width:720px){main,header,footer{padding-left:18px;padding-right:18px}header{padding-top:32px}
.scroll{margin:0 -18px;padding:0 18px}.two{grid-template-columns:1fr}
.three{grid-template-columns:repeat(2,minmax(0,1fr));
gap:20px 12px}.three figure:nth-child(3):last-child{grid-column:1/-1}section,article{margin-top:42px}
.tiles{grid-template-columns:repeat(2,1fr)}}
article~article{content-visibility:auto;contain-intrinsic-size:auto 2400px}
@media print{body{font-size:11pt}article{break-before:page}figure,table{break-inside:avoid}
article~article{content-visibility:visible}details,.filter,.tools,.live-only,.looking figure:not([data-drawn]),
.looking:not(:has([data-drawn])){display:none}}
"""
