"""How the page looks: the colours of the figures, by day and by night."""

from histo_mlflow.evaluation.style import BLUE

CSS = f"""
:root {{ color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --ground: #f3f6f9; --card: #ffffff; --well: #f6f8fa; --accent: {BLUE}; --on: #ffffff;
  --bar: #b9d4e6; --best: {BLUE}; --warn: #8a5a00; --warn-ground: #fdf3dd; --warn-line: #E69F00;
  --bad: #9a3412; --bad-ground: #fdeee6; --bad-line: #D55E00; --shade: 0 1px 2px #1b1f2414,
  0 8px 24px #1b1f240f; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6edf3; --soft: #9aa7b4; --line: #30363d; --ground: #0d1117; --card: #161b22;
    --well: #0f141b; --accent: #58b4ec; --on: #06131d; --bar: #24465c; --best: #4aa8e0;
    --warn: #f2c063; --warn-ground: #2b2110; --warn-line: #E69F00; --bad: #ffab85;
    --bad-ground: #2d1a12; --bad-line: #D55E00; --shade: 0 0 0 1px #30363d; }} }}
* {{ box-sizing: border-box; }}
[hidden] {{ display: none !important; }}
html {{ -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; min-height: 100vh; display: flex; flex-direction: column; color: var(--ink);
  background: var(--ground); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "DejaVu Sans", sans-serif; }}
.skip {{ position: absolute; left: -99rem; }}
.skip:focus {{ left: 1rem; top: .5rem; z-index: 2; background: var(--card); padding: .4rem .8rem; }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }}
header, main, footer {{ width: 100%; max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }}
header {{ display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between;
  gap: .6rem 1.5rem; padding-top: 1.6rem; padding-bottom: 1.3rem; }}
.brand {{ display: flex; align-items: center; gap: .8rem; }}
.brand svg {{ width: 2.3rem; height: 2.3rem; flex: none; }}
.brand rect {{ fill: {BLUE}; }} .brand .ring {{ fill: none; stroke: #fff; stroke-width: 3; }}
.brand .dot {{ fill: #fff; }}
h1 {{ margin: 0; font-size: 1.5rem; letter-spacing: -.01em; line-height: 1.2; }}
h2 {{ margin: 0 0 1rem; font-size: .82rem; font-weight: 650; color: var(--soft);
  letter-spacing: .06em; text-transform: uppercase; }}
.chip {{ margin: 0; padding: .3rem .85rem; border: 1px solid var(--line); border-radius: 99px;
  background: var(--card); font-size: .88rem; font-weight: 600; overflow-wrap: anywhere; }}
main {{ flex: 1; }}
.columns {{ display: grid; grid-template-columns: minmax(0, 10fr) minmax(0, 11fr); gap: 1.25rem;
  align-items: start; }}
.card {{ background: var(--card); border-radius: 14px; box-shadow: var(--shade);
  padding: 1.35rem 1.5rem 1.5rem; }}
.drop {{ position: relative; display: block; cursor: pointer; border-radius: 12px; }}
.drop input {{ position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0;
  cursor: pointer; }}
.drop:focus-within {{ outline: 3px solid var(--accent); outline-offset: 3px; }}
.empty {{ display: flex; flex-direction: column; align-items: center; justify-content: center;
  gap: .35rem; text-align: center; aspect-ratio: 1; max-height: 25rem; width: 100%; padding: 1.5rem;
  border: 2px dashed var(--line); border-radius: 12px; background: var(--well);
  transition: border-color .15s, background .15s; }}
.empty span {{ color: var(--soft); font-size: .9rem; max-width: 19rem; }}
.empty svg {{ width: 3rem; height: 3rem; margin-bottom: .4rem; fill: none; stroke: var(--accent);
  stroke-width: 2.6; stroke-linecap: round; stroke-linejoin: round; }}
.drop:hover .empty, .drop.over .empty {{ border-color: var(--accent); }}
.drop.over .empty {{ background: var(--card); }}
.drop.over .stage {{ outline: 3px solid var(--accent); outline-offset: 3px; }}
.stage {{ position: relative; display: block; border-radius: 12px; overflow: hidden;
  background: var(--well); aspect-ratio: 1; }}
.stage img {{ position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }}
.under {{ display: flex; align-items: center; justify-content: space-between; gap: 1rem;
  margin-top: .8rem; }}
.name {{ margin: 0; font-size: .9rem; color: var(--soft); overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; min-width: 0; }}
button {{ flex: none; font: inherit; font-size: .9rem; font-weight: 600; padding: .4rem .95rem;
  color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  cursor: pointer; }}
button:hover {{ border-color: var(--accent); color: var(--accent); }}
button.solid {{ background: var(--accent); border-color: var(--accent); color: var(--on); }}
.slider {{ margin-top: 1.1rem; padding-top: 1rem; border-top: 1px solid var(--line);
  font-size: .95rem; }}
.slider input {{ width: 100%; margin: .5rem 0 .25rem; accent-color: var(--accent); }}
.scale {{ display: flex; align-items: center; gap: .6rem; font-size: .8rem; color: var(--soft); }}
.scale i {{ flex: 1; height: .5rem; border-radius: 99px; background: linear-gradient(90deg, #000004,
  #420a68, #932667, #dd513a, #fca50a, #fcffa4); }}
.small {{ margin: .7rem 0 0; font-size: .85rem; color: var(--soft); }}
.idle {{ margin: 0; color: var(--soft); }}
.busy {{ margin: 0; display: flex; align-items: center; gap: .7rem; color: var(--soft); }}
.busy i {{ width: 1.15rem; height: 1.15rem; border-radius: 50%; border: 3px solid var(--line);
  border-top-color: var(--accent); animation: turn .8s linear infinite; }}
@keyframes turn {{ to {{ transform: rotate(1turn); }} }}
.verdict {{ display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between;
  gap: .1rem 1.2rem; margin: 0; font-size: 2rem; font-weight: 700; line-height: 1.2;
  letter-spacing: -.015em; }}
#class {{ overflow-wrap: anywhere; min-width: 0; }}
#percent {{ color: var(--accent); font-variant-numeric: tabular-nums; }}
.words {{ margin: .3rem 0 1.2rem; color: var(--soft); }}
.note {{ margin: 0 0 1.1rem; padding: .75rem 1rem; border-left: 4px solid;
  border-radius: 0 8px 8px 0; overflow-wrap: anywhere; }}
.note p {{ margin: .2rem 0 0; }}
.note.warn {{ color: var(--warn); background: var(--warn-ground); border-color: var(--warn-line); }}
.note.bad {{ color: var(--bad); background: var(--bad-ground); border-color: var(--bad-line); }}
.bars {{ list-style: none; margin: 0 0 .9rem; padding: 0; display: grid; gap: .3rem; }}
.bars button {{ display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .25rem 1rem;
  width: 100%; padding: .4rem .6rem .55rem; text-align: left; font-weight: 500; font-size: .95rem;
  background: none; border: 1px solid transparent; border-radius: 8px; }}
.bars button:hover {{ background: var(--well); color: inherit; border-color: transparent; }}
.bars button[aria-pressed=true] {{ background: var(--well); border-color: var(--line); }}
.bars button:disabled {{ cursor: default; color: inherit; background: none; }}
.bars li:first-child button {{ font-weight: 650; }}
.bars .label {{ overflow-wrap: anywhere; }}
.bars .value {{ font-variant-numeric: tabular-nums; color: var(--soft); }}
.bars li:first-child .value {{ color: inherit; }}
.bars .track {{ grid-column: 1 / -1; display: block; height: .55rem; border-radius: 99px;
  background: var(--well); overflow: hidden; box-shadow: inset 0 0 0 1px var(--line); }}
.bars .fill {{ display: block; height: 100%; width: 0; border-radius: 99px; background: var(--bar);
  transition: width .45s cubic-bezier(.2, .7, .2, 1); }}
.bars li:first-child .fill {{ background: var(--best); }}
details {{ margin-top: 1.4rem; padding-top: 1rem; border-top: 1px solid var(--line); }}
summary {{ cursor: pointer; font-weight: 600; font-size: .95rem; }}
dl {{ display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .35rem 1.2rem;
  margin: .9rem 0 0; font-size: .9rem; }}
dt {{ color: var(--soft); }}
dd {{ margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }}
.token {{ max-width: 34rem; margin: 2rem auto; }}
.token h2 {{ text-transform: none; letter-spacing: 0; font-size: 1.2rem; color: var(--ink); }}
.field {{ display: grid; grid-template-columns: 1fr auto; gap: .4rem .7rem; margin-bottom: 1rem; }}
.field label {{ grid-column: 1 / -1; font-weight: 600; font-size: .9rem; }}
.field input {{ font: inherit; padding: .5rem .8rem; color: inherit; background: var(--well);
  border: 1px solid var(--line); border-radius: 8px; min-width: 0; }}
footer {{ padding-top: 1.6rem; padding-bottom: 1.6rem; font-size: .85rem; color: var(--soft);
  text-align: center; }}
@media (max-width: 48rem) {{
  .columns {{ grid-template-columns: minmax(0, 1fr); }} .card {{ padding: 1.1rem; }}
  .verdict {{ font-size: 1.6rem; }} }}
@media (prefers-reduced-motion: reduce) {{ * {{ animation: none !important;
  transition: none !important; }} }}
"""
