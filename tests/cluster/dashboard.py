#!/usr/bin/env python3
"""Draws manifests/monitoring/dashboard.json with real numbers, as an SVG; not a picture of Grafana, but of its panels.

usage: dashboard.py FOLDER PROMTOOL > docs/dashboard.svg
FOLDER has pages of ORCA's /metrics, one every five seconds, named in their order. The panels' own queries are evaluated on
them by Prometheus' engine: promtool's test of an expression tells what it got.
"""
import html, json, os, re, subprocess, sys, tempfile

folder, promtool = sys.argv[1], sys.argv[2]
top = os.path.join(os.path.dirname(__file__), "../..")
dashboard = json.load(open(os.path.join(top, "manifests/monitoring/dashboard.json")))
pages = [open(os.path.join(folder, name)).read() for name in sorted(os.listdir(folder))]
STEP, POINTS = 5, 36
end = (len(pages) - 1) * STEP
times = sorted({round(end * i / (POINTS - 1) / STEP) * STEP for i in range(POINTS)})

series = {}
for number, page in enumerate(pages):
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            # The label that Prometheus adds.
            name = re.sub(r"^(process_\w+)$", r'\1{job="orca"}', name)
            series.setdefault(name, ["_"] * len(pages))[number] = {"inf": "1e30", "NaN": "_"}.get(value, value)
panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
queries = [(p, t["expr"], t["legendFormat"]) for p in panels for t in p["targets"]]
checks = []
for _, query, _ in queries:
    # `Inf` does not fit into the values of a test: a thousand quadrillion dollars an hour stand for it.
    query = query.replace("< Inf", "< 1e29")
    checks += [{"expr": query, "eval_time": f"{at}s", "exp_samples": [{"labels": "nothing", "value": 0}]} for at in times]
test = {"rule_files": [], "evaluation_interval": f"{STEP}s", "tests": [{
    "interval": f"{STEP}s",
    "input_series": [{"series": name, "values": " ".join(values)} for name, values in series.items()],
    "promql_expr_test": checks,
}]}
with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    json.dump(test, file)
    file.flush()
    done = subprocess.run([promtool, "test", "rules", file.name], capture_output=True, text=True)
got = {}
pattern = re.compile(r'expr: (".*?[^\\]"), time: (\S+?),\s*exp: [^\n]*\n\s*got: ([^\n]*)')
for query, at, values in pattern.findall(done.stdout + done.stderr):
    seconds = sum(int(n) * {"h": 3600, "m": 60, "s": 1}[u] for n, u in re.findall(r"(\d+)([hms])", at))
    samples = re.findall(r"\{([^}]*)\} ([-+.\dE]+|NaN|[-+]Inf)", values)
    got[json.loads(query), seconds] = [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in samples]
if not got:
    sys.exit("promtool told nothing:\n" + (done.stdout + done.stderr)[:3000])


def number(value, unit):
    if unit == "currencyUSD":
        return f"${value:.2f}"
    if unit in ("percentunit", "percent"):
        return f"{value * (100 if unit == 'percentunit' else 1):.0f} %"
    scale = {"bytes": ("B", 1024), "mbytes": ("MiB", 1), "Bps": ("B/s", 1024), "s": ("s", 1), "celsius": ("°C", 1)}.get(unit, ("", 1))
    for prefix in ("", "k", "M", "G"):
        if scale[1] == 1 or value < scale[1]:
            return f"{value:.3g} {prefix}{scale[0]}".strip()
        value /= scale[1]
    return f"{value:.3g}"


def lines_of(panel):
    """Legend to points, over all its queries."""
    found = {}
    for owner, query, legend in queries:
        if owner is not panel:
            continue
        for at in times:
            for labels, value in got.get((query.replace("< Inf", "< 1e29"), at), []):
                if value == value and value < 1e29:
                    name = re.sub(r"{{(\w+)}}", lambda m: labels.get(m.group(1), ""), legend) or "value"
                    found.setdefault(name.strip(), []).append((at, value))
    return found


COLOURS = ["#5794f2", "#73bf69", "#ff9830", "#f2495c", "#b877d9", "#56d2c6", "#fade2a", "#c7d0d9", "#8f3bb8", "#e0b400"]
W, UNIT, GAP = 60, 34, 6
out, height = [], max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"]) * UNIT + 70
text = lambda x, y, what, size=12, fill="#c7d0d9", anchor="start": out.append(
    f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}">{html.escape(what)}</text>')
text(12, 26, f"{dashboard['title']}: {dashboard['description']}", 16)
text(12, 46, f"drawn by tests/cluster/dashboard.py from {len(pages)} scrapes ({end // 60} min {end % 60} s) of a run in the local world, whose GPUs are stand-ins", 11, "#8e9aa6")
for panel in dashboard["panels"]:
    grid = panel["gridPos"]
    x, y, w, h = grid["x"] * W + GAP, grid["y"] * UNIT + 60, grid["w"] * W - GAP, grid["h"] * UNIT - GAP
    if panel["type"] == "row":
        text(x, y + 20, panel["title"], 14, "#ffffff")
        continue
    out.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="3" fill="#181b1f" stroke="#2c3235"/>')
    text(x + 8, y + 17, panel["title"], 12)
    defaults, lines = panel["fieldConfig"]["defaults"], lines_of(panel)
    if panel["type"] == "stat":
        last = [points[-1][1] for points in lines.values()]
        shown = number(last[0], defaults["unit"]) if last else "no data"
        for mapping in defaults.get("mappings", []):
            shown = mapping["options"].get(str(int(last[0])) if last else "", {"text": shown})["text"]
        colour = "#c7d0d9"
        for step in defaults["thresholds"]["steps"]:
            if last and (step["value"] is None or last[0] >= step["value"]) and step["color"] != "text":
                colour = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}[step["color"]]
        text(x + w / 2, y + h / 2 + 18, shown, 26, colour, "middle")
        continue
    if not lines:
        text(x + w / 2, y + h / 2, "no data in this run", 12, "#8e9aa6", "middle")
        continue
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    floor, drawn = {at: 0.0 for at in times}, []
    for name, points in sorted(lines.items()):
        if stacked:
            points = [(at, floor[at] + value) for at, value in points]
            floor.update(points)
        drawn.append((name, points))
    most = max(value for _, points in drawn for _, value in points) or 1
    left, right, low, high = x + 58, x + w - 10, y + h - 46, y + 30
    for share in (0, 0.5, 1):
        level = low - (low - high) * share
        out.append(f'<line x1="{left}" x2="{right}" y1="{level:.0f}" y2="{level:.0f}" stroke="#2c3235"/>')
        text(left - 5, level + 4, number(most * share, defaults["unit"]), 10, "#8e9aa6", "end")
    legend = left
    for (name, points), colour in zip(drawn, COLOURS * 9):
        place = lambda point: f"{left + (right - left) * point[0] / max(end, 1):.1f},{low - (low - high) * point[1] / most:.1f}"
        path = " ".join(map(place, points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if legend < right - 50:
            out.append(f'<rect x="{legend}" y="{low + 20}" width="10" height="3" fill="{colour}"/>')
            text(legend + 14, low + 25, name, 10, "#8e9aa6")
            legend += 26 + 6 * len(name)
    text(left, low + 13, "0", 9, "#8e9aa6")
    text(right, low + 13, f"{end // 60}:{end % 60:02d}", 9, "#8e9aa6", "end")
print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * W + GAP} {height}" font-family="sans-serif">')
print(f'<rect width="100%" height="100%" fill="#111217"/>\n' + "\n".join(out) + "\n</svg>")
