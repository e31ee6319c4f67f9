"""How a page looks: the colours of the figures, system fonts, narrow screens and paper too."""

from histo_mlflow.evaluation.style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, RED

CSS = f"""\
:root {{ color-scheme: light; --ink: {INK}; --grey: {GREY}; --faint: {FAINT}; --accent: {BLUE};
  --good: {GREEN}; --warn: {ORANGE}; --bad: {RED}; }}
* {{ box-sizing: border-box; }}
html {{ scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; background: #f6f8fa; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }}
header {{ background: #fff; border-top: 5px solid var(--accent);
  border-bottom: 1px solid var(--faint); padding: 2rem max(1.25rem, calc(50% - 34rem)) 1rem; }}
h1 {{ margin: 0 0 1.1rem; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 .9rem; font-size: 1.3rem; line-height: 1.3; overflow-wrap: anywhere; }}
dl {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem;
  margin: 0 0 1.1rem; }}
dl div {{ border: 1px solid var(--faint); border-radius: 8px; padding: .55rem .8rem; }}
dt {{ color: var(--grey); font-size: .8rem; }}
dd {{ margin: .1rem 0 0; font-size: 1.12rem; font-weight: 600; line-height: 1.3;
  overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }}
nav {{ display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .92rem; }}
a {{ color: var(--accent); text-decoration: none; }}
a:hover, a:focus {{ text-decoration: underline; }}
main {{ max-width: 70.5rem; margin: 0 auto; padding: 1.25rem; }}
section {{ background: #fff; border: 1px solid var(--faint); border-radius: 10px;
  padding: 1.4rem 1.5rem 1rem; margin-bottom: 1.25rem; scroll-margin-top: 1rem; }}
p, ul {{ max-width: 46rem; margin: 0 0 .9rem; overflow-wrap: anywhere; }}
ul {{ padding-left: 1.2rem; }}
li {{ margin-bottom: .3rem; }}
.note {{ border-left: 4px solid var(--grey); background: #f6f8fa; padding: .6rem .9rem;
  border-radius: 0 6px 6px 0; }}
.note.warn {{ border-color: var(--warn); background: #fdf6e7; }}
.note.bad {{ border-color: var(--bad); background: #fcefe7; }}
.note.good {{ border-color: var(--good); background: #e9f6f1; }}
figure {{ margin: 0 0 1rem -.6rem; }}
figcaption {{ padding-left: .6rem; }}
img {{ display: block; max-width: 100%; height: auto; }}
figcaption, caption {{ color: var(--grey); font-size: .88rem; text-align: left; }}
caption {{ padding: 0 0 .4rem; white-space: nowrap; }}
.wide {{ overflow-x: auto; margin: 0 0 1.1rem; }}
table {{ border-collapse: collapse; font-size: .92rem; min-width: min(100%, 30rem); }}
th, td {{ padding: .32rem 1.1rem .32rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e7ebef; }}
th {{ color: var(--grey); font-weight: 600; border-bottom: 1.5px solid var(--faint);
  vertical-align: bottom; white-space: nowrap; }}
th.number, td.number {{ text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }}
td:not(.number) {{ overflow-wrap: break-word; max-width: 46rem; }}
.none {{ color: var(--grey); font-style: italic; }}
.mark {{ display: inline-block; border-radius: 5px; padding: 0 .5em; font-size: .8rem;
  white-space: nowrap;
  font-weight: 700; background: #eaeef2; }}
.mark.good {{ background: #d5efe6; color: #00553e; }}
.mark.warn {{ background: #fbe8c2; color: #6b4600; }}
.mark.bad {{ background: #f8d9c6; color: #8a2f00; }}
pre {{ background: #f6f8fa; border: 1px solid var(--faint); border-radius: 6px; padding: .7rem 1rem;
  overflow-x: auto; font-size: .88rem; line-height: 1.45; }}
@media (max-width: 40rem) {{
  header {{ padding-top: 1.3rem; }} main {{ padding: .7rem; }} section {{ padding: 1rem; }}
  h1 {{ font-size: 1.5rem; }} caption {{ white-space: normal; }}
}}
@media print {{
  body, header, section {{ background: #fff; }} nav {{ display: none; }}
  section {{ border: 0; padding: 0; }} figure, tr {{ break-inside: avoid; }}
}}
"""
