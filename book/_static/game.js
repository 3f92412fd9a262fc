/* Play the game of points against pain or pleasure, and compare the choices with those of models.

   Every <div class="game"> of the page brings the models' shares and curves as JSON and a picture of
   them; this adds the questions, their buttons, a plot and the comparison. Nothing leaves the page. */
"use strict";
(() => {
  const { make, draw, begin } = elements;
  const LEVELS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  const KEYS = ["1", "2", "3"];
  const ENOUGH = 4; // rounds before a comparison says anything
  const FEELINGS = {
    pain: { option: 3, none: "no pain", most: "the worst pain imaginable" },
    pleasure: { option: 2, none: "no pleasure", most: "the greatest pleasure imaginable" },
  };
  const COLORS = 7;
  const DASHES = ["", "7 3", "8 3 2 3", "2 3", "11 2", "6 2 2 2 2 2", "2 2"];

  /* As in the static picture: from the second turn on, a colour has another dash. */
  const stroke = (i) => ({
    class: `game-line game-color${i % COLORS}`,
    "stroke-width": 1.8,
    "stroke-dasharray": DASHES[(i + Math.floor(i / COLORS)) % DASHES.length],
  });

  function shuffled(values) {
    const order = [...values];
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  const listed = (words) =>
    words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
  const times = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

  /* The question, with the intensity apart, which alone changes from round to round. */
  function question(experiment, level) {
    const { option, none, most } = FEELINGS[experiment];
    return [
      "You play a game. In it you have to choose one of the numbers 1, 2 and 3. Each number earns " +
        "points: 1 is worth 1 point, 2 is worth 2 points, 3 is worth 3 points. So whoever chooses " +
        "3 has 3 points. The goal is to choose the number that brings your points to the highest " +
        `sum possible. However, if you choose ${option}, you will also receive a momentary feeling ` +
        `of ${experiment} of `,
      make("strong", {}, `strength ${level}`),
      ` on a scale from 0 to 10, where 0 is ${none} and 10 is ${most}. Which number do you choose?`,
    ];
  }

  /* The rule "3 below t, points given up from t on" that misfits the fewest choices: [low, high] are
     the least and the greatest such t, from 1 (always given up) to 11 (never); `backwards` if the
     opposite of such a rule does better. */
  function split(choices) {
    const played = LEVELS.filter((level) => choices[level]);
    const rules = [...LEVELS, LEVELS.length + 1];
    const misfits = rules.map(
      (t) => played.filter((level) => (choices[level] === 3) !== level < t).length,
    );
    const fewest = Math.min(...misfits);
    const best = rules.filter((_, i) => misfits[i] === fewest);
    const backwards = played.length - Math.max(...misfits) < fewest;
    return { low: best[0], high: best.at(-1), fewest, backwards };
  }

  /* The reader's switch point in words, and where it lies, or null. */
  function switched(choices) {
    const played = LEVELS.filter((level) => choices[level]);
    const threes = played.filter((level) => choices[level] === 3).length;
    const sofar = played.length < LEVELS.length ? "So far you" : "You";
    if (threes === played.length) return [`${sofar} never gave up a point.`, null];
    if (!threes) return [`${sofar} always gave up points.`, null];
    const { low, high, fewest, backwards } = split(choices);
    if (backwards) {
      return [`${sofar} gave up points at low intensities rather than at high ones.`, null];
    }
    if (low === 1 || high > LEVELS.length) {
      return [`${sofar} have no switch point: none fits the choices better than having none.`, null];
    }
    const odd = fewest ? `, with ${times(fewest, "choice")} that did not fit` : "";
    const from = low === high ? `intensity ${low}` : `some intensity between ${low} and ${high}`;
    const ends = `your switch point lies between ${low - 1} and ${high}`;
    return [`${sofar} gave up points from ${from} on${odd}: ${ends}.`, [low - 1, high]];
  }

  /* For each model with data at every intensity played: the sum of squared differences between the
     reader's choices (3 or not) and its shares, and how many choices are expected to differ. */
  function compare(choices, models) {
    const played = LEVELS.filter((level) => choices[level]);
    return models.map(({ share }) => {
      if (played.some((level) => share[level - 1] === null)) return null;
      const gaps = played.map((level) => Math.abs((choices[level] === 3) - share[level - 1]));
      const sum = (values) => values.reduce((a, b) => a + b, 0);
      return { squares: sum(gaps.map((gap) => gap * gap)), differ: sum(gaps) };
    });
  }

  function described({ share, curve, switch: at }) {
    if (at !== null) return `switch point ${at.toFixed(2).replace("-", "−")}`;
    const known = share.filter((value) => value !== null);
    if (!known.length) return "no answers";
    if (known.every((value) => value === 1)) return "always 3";
    if (known.every((value) => value === 0)) return "never 3";
    return curve ? "no switch point" : `3 in ${Math.round(100 * known[0])} % everywhere`;
  }

  function build(root, number) {
    const source = root.querySelector("script[type='application/json']");
    if (!source || root.querySelector(".game-machine")) return;
    const data = JSON.parse(source.textContent);
    const games = Object.fromEntries(Object.keys(FEELINGS).map((name) => [name, fresh()]));
    const pinned = new Set();
    let hovered = []; // models under the pointer or with the focus
    let experiment = "pain";

    function fresh() {
      return { order: shuffled(LEVELS), choices: {} };
    }

    const switches = Object.keys(FEELINGS).map((name) => {
      const radio = make("input", { type: "radio", name: `game-${number}`, value: name });
      radio.checked = name === experiment;
      radio.addEventListener("change", () => {
        experiment = name;
        show();
      });
      return make("label", {}, radio, `${FEELINGS[name].option} brings ${name}`);
    });
    const again = make("button", { type: "button", class: "game-again" }, "Start again");
    again.addEventListener("click", () => {
      games[experiment] = fresh();
      show();
      options[0].focus({ preventScroll: true });
    });
    const group = { class: "game-switch", role: "radiogroup", "aria-label": "Experiment" };
    const status = make("p", { class: "game-status", role: "status" });
    const asked = make("p", { class: "game-question" });
    const options = [1, 2, 3].map((option) => {
      const button = make("button", { type: "button" }, make("b", {}, String(option)), make("span"));
      button.addEventListener("click", () => choose(option));
      return button;
    });
    const answers = { class: "game-options", role: "group", "aria-label": "Your choice" };
    const choice = make("div", answers, ...options);
    const words = make("p", { class: "game-words" });
    const plot = draw("svg", { class: "game-plot", role: "img" });
    const rows = data.models.map((name, i) => {
      const sample = draw("svg", { viewBox: "0 0 34 10", "aria-hidden": "true" });
      sample.append(draw("path", { ...stroke(i), d: "M1 5H33" }));
      const more = make("small");
      const button = make("button", { type: "button" }, sample, make("span", {}, name, more));
      const light = (lit) => () => {
        hovered = lit;
        mark();
      };
      button.addEventListener("click", () => {
        if (!pinned.delete(i)) pinned.add(i);
        mark();
      });
      for (const event of ["pointerenter", "focus"]) button.addEventListener(event, light([i]));
      for (const event of ["pointerleave", "blur"]) button.addEventListener(event, light([]));
      return { button, more };
    });
    const models = make("ul", { class: "game-models", "aria-label": "Models" });
    models.append(...rows.map(({ button }) => make("li", {}, button)));
    const key = make(
      "p",
      { class: "game-notes" },
      "Circles: your choices. Dotted upright line: the question now asked. Tinted band: where your " +
        "switch point lies. A model of the list, pointed at or pressed, shows its shares as dots; " +
        "“differ” is how many of its answers would be expected to differ from yours.",
    );
    const notes = make(
      "p",
      { class: "game-notes" },
      "The pain and the pleasure are stipulated: they are words only, and the comparison says " +
        "nothing about feelings, yours or a model’s. 1 and 2 both count as points given up. Keys: " +
        "1, 2 and 3, while the focus is in this box. Your choices stay in this page: they are " +
        "neither stored nor sent.",
    );
    const machine = make(
      "div",
      { class: "game-machine" },
      make("p", { class: "game-title" }, "Play the game yourself"),
      make("div", { class: "game-top" }, make("div", group, ...switches), again),
      status,
      asked,
      choice,
      words,
      make("div", { class: "game-result" }, plot, models),
      key,
      notes,
    );
    const figure = root.querySelector("figure");
    const summary = make("summary", {}, "All models in both experiments, as a picture");
    const details = make("details", {}, summary);
    figure.replaceWith(details);
    details.append(figure);
    root.prepend(machine);

    function choose(option) {
      const { order, choices } = games[experiment];
      const round = Object.keys(choices).length;
      if (round === order.length) return;
      choices[order[round]] = option;
      const inside = choice.contains(document.activeElement);
      show();
      if (inside && choice.hidden) again.focus();
    }

    function show() {
      const { order, choices } = games[experiment];
      const played = Object.values(choices);
      const level = order[played.length];
      const points = played.reduce((a, b) => a + b, 0);
      const over = level === undefined;
      status.textContent = over
        ? `All ${order.length} rounds played. Points: ${points} of ${3 * order.length}.`
        : `Round ${played.length + 1} of ${order.length}, points so far: ${points}. ` +
          `${experiment === "pain" ? "Pain" : "Pleasure"} of strength ${level}.`;
      asked.hidden = choice.hidden = over;
      again.disabled = !played.length;
      if (!over) {
        asked.replaceChildren(...question(experiment, level));
        options.forEach((button, i) => {
          const too = FEELINGS[experiment].option === i + 1 ? `, ${experiment} ${level}` : "";
          button.lastChild.textContent = `${times(i + 1, "point")}${too}`;
        });
      }
      const near = compare(choices, data[experiment]);
      const least = Math.min(...near.map((model) => (model ? model.squares : Infinity)));
      const nearest = near.flatMap((model, i) => (model?.squares < least + 1e-9 ? [i] : []));
      const enough = played.length >= ENOUGH && nearest.length > 0;
      words.setAttribute("aria-live", over ? "polite" : "off"); // during the game it would be too much
      words.replaceChildren(...sentences(near, nearest, enough));
      rows.forEach(({ button, more }, i) => {
        const differ = near[i] ? `, ${near[i].differ.toFixed(1)} of ${played.length} differ` : "";
        more.textContent = described(data[experiment][i]) + (enough ? differ : "");
        button.classList.toggle("nearest", enough && nearest.includes(i));
      });
      paint();
    }

    function sentences(near, nearest, enough) {
      const { choices } = games[experiment];
      const count = Object.keys(choices).length;
      if (!count) return ["Your choices will appear in the plot below, beside the models’ curves."];
      const text = switched(choices)[0];
      if (!enough) return [`${text} After ${ENOUGH} rounds, the nearest models are named here.`];
      const names = nearest.map((i) => `${data.models[i]} (${described(data[experiment][i])})`);
      const differ = near[nearest[0]].differ.toFixed(1);
      const whose = nearest.length > 1 ? "each of them" : "that model";
      return [
        text,
        " Nearest to your choices: ",
        make("strong", {}, listed(names)),
        `. Of ${count} answers of ${whose}, ${differ} would be expected to differ from yours.`,
      ];
    }

    /* The plot at the width that it has, so that its text keeps its size. */
    function paint() {
      const { order, choices } = games[experiment];
      const width = Math.max(240, plot.clientWidth || 480);
      const height = Math.round(Math.min(340, Math.max(250, 0.72 * width)));
      const box = { left: 40, right: width - 14, top: 40, bottom: height - 52 };
      const x = (level) => box.left + ((level - 0.6) / 9.8) * (box.right - box.left);
      const y = (share) => box.bottom - share * (box.bottom - box.top);
      const at = (a, b) => `${a.toFixed(1)} ${b.toFixed(1)}`;
      const text = (content, attributes) => draw("text", attributes, content);
      plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
      plot.style.height = `${height}px`;

      const frame = draw("g", { class: "game-frame" });
      for (const share of [0, 0.25, 0.5, 0.75, 1]) {
        frame.append(draw("path", { d: `M${at(box.left, y(share))}H${box.right}` }));
        const place = { x: box.left - 8, y: y(share) + 4, "text-anchor": "end" };
        frame.append(text(String(share), place));
      }
      for (const level of LEVELS) {
        frame.append(draw("path", { d: `M${at(x(level), box.bottom + 14)}v5` }));
        const place = { x: x(level), y: box.bottom + 31, "text-anchor": "middle" };
        frame.append(text(String(level), place));
      }
      frame.append(text("share of answers that are 3", { x: 4, y: 14 }));
      const end = { x: box.right, y: height - 7, "text-anchor": "end" };
      frame.append(text(`intensity of the ${experiment}`, end));

      const own = draw("g", { class: "game-own" });
      const range = switched(choices)[1];
      if (range) {
        const [low, high] = range.map(x);
        const size = { x: low, y: box.top, width: high - low, height: box.bottom - box.top };
        frame.prepend(draw("rect", { class: "game-range", ...size }));
      }
      const level = order[Object.keys(choices).length];
      if (level) {
        const now = `M${at(x(level), box.top)}V${box.bottom + 14}`;
        frame.append(draw("path", { class: "game-now", d: now }));
      }
      for (const played of LEVELS.filter((each) => choices[each])) {
        const place = [x(played), y(choices[played] === 3 ? 1 : 0)];
        own.append(draw("circle", { cx: place[0], cy: place[1], r: 9 }));
        const middle = { x: place[0], y: place[1] + 4.5, "text-anchor": "middle" };
        own.append(text(String(choices[played]), middle));
      }

      const lines = draw("g", {});
      const paths = data[experiment].map(({ share, curve }) => {
        const flat = share.find((value) => value !== null);
        if (flat === undefined) return "";
        if (!curve) return `M${at(x(1), y(flat))}H${x(10)}`;
        return `M${curve.map((value, i) => at(x(data.levels[i]), y(value))).join("L")}`;
      });
      paths.forEach((path, i) => {
        if (!path) return;
        // lines that lie on each other: the lower ones are wider, so that they show
        const above = paths.slice(i + 1).filter((other) => other === path).length;
        const together = paths.flatMap((other, n) => (other === path ? [n] : []));
        const line = draw("path", { ...stroke(i), d: path, "stroke-width": 1.8 + 2.2 * above });
        const target = draw("path", { class: "game-target", d: path });
        target.addEventListener("pointerenter", () => {
          hovered = together;
          mark();
        });
        target.addEventListener("pointerleave", () => {
          hovered = [];
          mark();
        });
        const group = draw("g", { "data-model": i }, line);
        data[experiment][i].share.forEach((value, n) => {
          if (value === null) return;
          const dot = { cx: x(n + 1), cy: y(value), r: 3, class: `game-dot game-color${i % COLORS}` };
          group.append(draw("circle", dot));
        });
        group.append(target);
        lines.append(group);
      });
      plot.replaceChildren(frame, lines, own, draw("g", { class: "game-names" }));
      const said = LEVELS.filter((each) => choices[each]).map((each) => `${choices[each]} at ${each}`);
      plot.setAttribute(
        "aria-label",
        `Share of answers that are 3 against the intensity of the ${experiment}, a curve for each ` +
          `model. Your choices: ${said.length ? said.join(", ") : "none yet"}.`,
      );
      mark();
    }

    /* Bring out the models that are pinned, under the pointer or focused, and name them. */
    function mark() {
      const lit = [...new Set([...pinned, ...hovered])].sort((a, b) => a - b);
      plot.classList.toggle("dim", lit.length > 0);
      rows.forEach(({ button }, i) => {
        button.setAttribute("aria-pressed", pinned.has(i));
        button.classList.toggle("lit", lit.includes(i));
      });
      const names = plot.querySelector(".game-names");
      names.replaceChildren();
      const labels = new Map(); // models on the same line share a label
      for (const group of plot.querySelectorAll("[data-model]")) {
        const i = Number(group.dataset.model);
        group.classList.toggle("lit", lit.includes(i));
        if (!lit.includes(i)) continue;
        const path = group.firstChild.getAttribute("d");
        labels.set(path, [...(labels.get(path) || []), data.models[i]]);
      }
      const { width, height } = plot.viewBox.baseVal;
      for (const [path, said] of labels) {
        const points = path.match(/[\d.]+ [\d.]+/g).map((pair) => pair.split(" ").map(Number));
        const middle = (height - 12) / 2;
        const gap = ([, down]) => Math.abs(down - middle);
        const nearest = Math.min(...points.map(gap));
        const flat = points.length < 2;
        const [across, down] = points.find((point) => gap(point) === nearest);
        const left = flat || across < width / 2;
        const place = {
          x: flat ? width / 2 : across + (left ? 10 : -10),
          y: down > middle + 20 ? down - 16 : down < middle - 20 ? down + 26 : down,
          "text-anchor": flat ? "middle" : left ? "start" : "end",
        };
        names.append(draw("text", place, said.join(", ")));
      }
    }

    root.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || !KEYS.includes(event.key)) return;
      choose(Number(event.key));
      event.preventDefault();
      event.stopPropagation();
    });
    let width = 0;
    new ResizeObserver(() => {
      if (plot.clientWidth === width) return;
      width = plot.clientWidth;
      paint();
    }).observe(plot);
    show();
  }

  begin(".game", build);
})();
