"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const places = [...document.querySelectorAll(".chart")];

  // "@good" in a figure is the colour --good of the style sheet as it stands now: light, dark or paper.
  const painted = (value, style) => {
    if (typeof value === "string") return value[0] === "@" ? style.getPropertyValue("--" + value.slice(1)).trim() : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((each) => painted(each, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, painted(each, style)]));
    return value;
  };
  const axis = { gridcolor: "@grid", zerolinecolor: "@rule", linecolor: "@rule", automargin: true, tickfont: { size: 11 } };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified",
    font: { family: "system-ui, sans-serif", size: 12, color: "@dim" },
    hoverlabel: { bgcolor: "@sheet", bordercolor: "@rule", font: { color: "@ink" } },
    margin: { l: 8, r: 8, t: touch.matches ? 52 : 30, b: 8 }, // buttons that always show stand above the legend
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    modebar: { color: "@dim", activecolor: "@strategy", bgcolor: "rgba(0,0,0,0)" },
  };
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const place of places) {
      const { data, layout } = figures[place.id];
      const whole = {
        ...base, ...layout,
        xaxis: { ...axis, ...layout.xaxis },
        // A finger scrolls the page, so there the buttons zoom; a mouse draws the stretch of time it wants.
        yaxis: { ...axis, fixedrange: !touch.matches, ...layout.yaxis },
        dragmode: touch.matches ? false : "zoom",
      };
      const buttons = [["zoomIn2d", "zoomOut2d", "resetScale2d"]];
      Plotly.react(place, painted(data, style), painted(whole, style), {
        responsive: true, displaylogo: false, displayModeBar: touch.matches ? true : "hover", modeBarButtons: buttons,
      });
    }
  };
  draw();
  dark.addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);

  for (const head of document.querySelectorAll("th button"))
    head.addEventListener("click", () => {
      const cell = head.parentElement;
      const body = cell.closest("table").tBodies[0];
      const falling = cell.getAttribute("aria-sort") === "ascending";
      for (const other of cell.parentElement.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => row.cells[cell.cellIndex].dataset.key;
      const order = (a, b) => {
        const [one, two] = [key(a), key(b)];
        if (one === "" || two === "") return (one === "") - (two === ""); // what is not known stays last
        const found = isNaN(one) || isNaN(two) ? one.localeCompare(two) : one - two;
        return falling ? -found : found;
      };
      body.append(...[...body.rows].sort(order));
    });
})();
