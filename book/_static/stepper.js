/* Step forwards and backwards through what two programs do to their tape.

   Every <div class="stepper"> of the page brings the trace as JSON and a picture of it; this adds
   the tape, a slider and buttons. At time t the tape shows what the first t instructions have left:
   the mark is on the last of them, the heads are where it has left them. */
"use strict";
(() => {
  const { make, draw, begin } = elements;
  const ICONS = {
    First: "M4 3h2v10H4zM13 3v10L6.5 8z",
    Back: "M11.5 3v10L5 8z",
    Play: "M4 2.5 13.5 8 4 13.5z",
    Pause: "M4 3h3v10H4zM9 3h3v10H9z",
    Forward: "M4.5 3v10L11 8z",
    Last: "M10 3h2v10h-2zM3 3v10l6.5-5z",
  };
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  const icon = (name) =>
    draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("path", { d: ICONS[name] }));

  /* The trace with what it takes to go backwards: the byte that each write destroys. */
  function load(data) {
    const count = data.pc.length;
    const tape = Uint8Array.from(data.tape);
    const old = new Uint8Array(count);
    const code = new Uint8Array(count); // the instruction itself, which a later one may overwrite
    for (let i = 0; i < count; i++) {
      code[i] = tape[data.pc[i]];
      const place = data.place[i];
      if (place >= 0) {
        old[i] = tape[place];
        tape[place] = data.value[i];
      }
    }
    const [step, pc, head0, head1] = data.end;
    return {
      ...data,
      count,
      old,
      code,
      step: [...data.step, step],
      pc: [...data.pc, pc],
      heads: [
        [...data.head0, head0],
        [...data.head1, head1],
      ],
    };
  }

  const shown = (trace, byte) => trace.symbols[byte] || (byte ? "·" : "0");
  const named = (trace, byte) =>
    trace.symbols[byte] ? `\`${trace.symbols[byte]}\`` : byte ? `no-op ${byte}` : "zero";

  /* What the instruction before time t did, in words; symbols between backquotes. */
  function sentence(trace, t) {
    const { step, pc, heads, place, value, old, code } = trace;
    if (t === 0) {
      return `Before the first instruction: head 0 is at cell ${heads[0][0]}, head 1 at cell ${heads[1][0]}.`;
    }
    const i = t - 1;
    const symbol = trace.symbols[code[i]];
    // no-ops between two instructions are steps, too: without them, where did this one lead?
    const next = pc[t] - (step[t] - step[i]) + 1;
    const jumps = next !== pc[i] + 1;
    const forms = trace.words[symbol];
    let text = forms[jumps ? forms.length - 1 : 0]
      .replaceAll("{head0}", heads[0][i])
      .replaceAll("{head1}", heads[1][i])
      .replaceAll("{to0}", heads[0][t])
      .replaceAll("{to1}", heads[1][t]);
    if (jumps) text += next > 127 || next < 0 ? ", off the tape" : `, to cell ${next}`;
    if (place[i] >= 0) {
      text += `: ${named(trace, value[i])}`;
      text += old[i] === value[i] ? ", as before" : ` (before: ${named(trace, old[i])})`;
    }
    const idle = step[i] - (i ? step[i - 1] + 1 : 0);
    const skipped = idle ? `, after ${idle} no-op${idle > 1 ? "s" : ""}` : "";
    let end = "";
    if (t === trace.count) end = trace.cut ? " The recording stops here." : " Here the program ends.";
    return `Step ${step[i] + 1}${skipped}: \`${symbol}\` in cell ${pc[i]} ${text}.${end}`;
  }

  function build(root) {
    const source = root.querySelector("script[type='application/json']");
    if (!source || root.querySelector(".stepper-machine")) return;
    const trace = load(JSON.parse(source.textContent));
    const tape = Uint8Array.from(trace.tape);
    let time = 0;
    let timer = 0;

    const button = (name, action) => {
      const made = make("button", { type: "button" }, icon(name), make("span", {}, name));
      made.addEventListener("click", action);
      return made;
    };
    const play = button("Play", () => (timer ? pause() : start()));
    const buttons = make(
      "div",
      { class: "stepper-buttons", role: "group", "aria-label": "Step through the instructions" },
      button("First", () => jump(0)),
      button("Back", () => jump(time - 1)),
      play,
      button("Forward", () => jump(time + 1)),
      button("Last", () => jump(trace.count)),
    );
    const slider = make("input", { type: "range", min: 0, max: trace.count, step: 1, value: 0 });
    const output = make("output");
    const label = make("label", { class: "stepper-slider" }, "Instruction", slider, output);
    const words = make("p", { class: "stepper-words", "aria-live": "polite" });

    const cells = Array.from(tape, (_, n) => {
      const cell = make("span", { class: "stepper-cell" }, make("b"));
      if (n % 8 === 0) cell.append(make("i", {}, String(n)));
      return cell;
    });
    const programs = ["First program", "Second program"].map((name, n) => {
      const half = cells.slice(64 * n, 64 * n + 64);
      const row = make("div", { class: "stepper-row", role: "img" }, ...half);
      const title = make("div", { class: "stepper-name", "aria-hidden": "true" }, name);
      return { name, row, block: make("div", {}, title, row) };
    });
    const key = (kind, text, symbol = "·") => {
      const sample = make("span", { class: `stepper-cell ${kind}`, "aria-hidden": "true" });
      sample.append(make("b", {}, symbol));
      return make("li", {}, sample, text);
    };
    const legend = make(
      "ul",
      { class: "stepper-legend" },
      key("at", "instruction just executed"),
      key("head0", "head 0"),
      key("head1", "head 1"),
      key("written", "byte last written"),
      key("", "no instruction"),
      key("", "zero", "0"),
      make("li", { class: "stepper-keys" }, "Keys: ← → one step, Home and End, space to play"),
    );
    const tapes = make("div", { class: "stepper-tape" }, ...programs.map((program) => program.block));
    const machine = make("div", { class: "stepper-machine" }, buttons, label, words, tapes, legend);

    // the picture becomes a map: a line shows the time, and a click goes there
    const picture = root.querySelector("img");
    const now = make("span", { class: "stepper-now", "aria-hidden": "true" });
    if (picture) {
      const map = make("span", { class: "stepper-map" });
      picture.replaceWith(map);
      map.append(picture, now);
      const [left, top, right, bottom] = trace.axes;
      now.style.left = `${100 * left}%`;
      now.style.width = `${100 * (right - left)}%`;
      map.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        const part = (event.clientY - box.top) / box.height;
        jump(Math.round(((part - top) / (bottom - top)) * trace.count));
      });
    }
    root.prepend(machine);

    /* Do or undo writes until the tape is that of time t. */
    function go(t) {
      t = Math.min(trace.count, Math.max(0, t));
      for (; time < t; time++) {
        if (trace.place[time] >= 0) tape[trace.place[time]] = trace.value[time];
      }
      while (time > t) {
        time--;
        if (trace.place[time] >= 0) tape[trace.place[time]] = trace.old[time];
      }
      show();
    }

    function jump(t) {
      pause();
      go(t);
    }

    function show() {
      const written = lastWritten();
      const at = time ? trace.pc[time - 1] : -1;
      const [head0, head1] = trace.heads.map((head) => head[time]);
      cells.forEach((cell, n) => {
        const kind = trace.symbols[tape[n]] ? "code" : "";
        const marks = [
          "stepper-cell",
          kind,
          n === at ? "at" : "",
          n === head0 ? "head0" : "",
          n === head1 ? "head1" : "",
          n === written ? "written" : "",
        ];
        const name = marks.filter(Boolean).join(" ");
        if (cell.className !== name) cell.className = name;
        if (cell.dataset.byte === String(tape[n])) return;
        cell.dataset.byte = tape[n];
        cell.title = `cell ${n}: byte ${tape[n]}`;
        cell.firstChild.textContent = shown(trace, tape[n]);
      });
      slider.value = time;
      slider.setAttribute("aria-valuetext", `${time} of ${trace.count}`);
      output.textContent = `${time} of ${trace.count}`;
      const parts = sentence(trace, time).split("`");
      words.replaceChildren(...parts.map((part, n) => (n % 2 ? make("code", {}, part) : part)));
      const [, top, , bottom] = trace.axes;
      now.style.top = `${100 * (top + ((bottom - top) * time) / trace.count)}%`;
      if (!timer) describe();
    }

    /* The tape for those who hear it; not while it plays. */
    function describe() {
      programs.forEach(({ name, row }, n) => {
        const bytes = Array.from(tape.subarray(64 * n, 64 * n + 64), (byte) => shown(trace, byte));
        row.setAttribute("aria-label", `${name} after ${time} instructions: ${bytes.join("")}`);
      });
    }

    function lastWritten() {
      for (let i = time - 1; i >= 0; i--) if (trace.place[i] >= 0) return trace.place[i];
      return -1;
    }

    function face(name) {
      play.replaceChildren(icon(name), make("span", {}, name));
    }

    function start() {
      if (time === trace.count) go(0);
      words.setAttribute("aria-live", "off");
      face("Pause");
      // half a minute for all of it, but no faster than the eye follows
      const pace = calm.matches ? 500 : Math.min(200, Math.max(40, 30000 / trace.count));
      timer = setInterval(() => {
        go(time + 1);
        if (time === trace.count) pause();
      }, pace);
    }

    function pause() {
      if (!timer) return;
      clearInterval(timer);
      timer = 0;
      face("Play");
      words.setAttribute("aria-live", "polite");
      show();
    }

    slider.addEventListener("input", () => jump(Number(slider.value)));
    root.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const moves = { ArrowLeft: time - 1, ArrowRight: time + 1, Home: 0, End: trace.count };
      if (event.key in moves) jump(moves[event.key]);
      else if (event.key === " " && event.target === slider) play.click();
      else return; // on a button the space bar presses that button
      event.preventDefault();
      event.stopPropagation();
    });
    tapes.addEventListener("click", () => slider.focus({ preventScroll: true }));
    document.addEventListener("visibilitychange", () => document.hidden && pause());
    show();
  }

  begin(".stepper", build);
})();
