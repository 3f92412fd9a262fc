/* Guess what an icon is for: from its look, then from its screen, then from where it leads.

   Every <div class="icons"> of the page brings the pictures, and the answers in folded boxes; this
   shows one icon at a time, asks for a guess before a box can be seen, and keeps the score beside
   that of models which see as much. Nothing leaves the page. */
"use strict";
(() => {
  const { make, begin } = elements;
  const STAGES = ["its look", "its screen", "where it leads"];

  function start(element) {
    const frames = [...element.querySelectorAll(".icons-round")];
    const rounds = frames.map((frame) => JSON.parse(frame.dataset.round));
    const boxes = frames.map((frame) => [...frame.querySelectorAll("details")]);
    const guesses = rounds.map(() => []); // of each round, one for each stage
    let now = 0;

    const status = make("p", { class: "icons-status", role: "status" });
    const buttons = make("div", { class: "icons-buttons", role: "group" });
    const next = make("button", { type: "button", class: "icons-next" }, "Next icon");
    const again = make("button", { type: "button", class: "icons-next" }, "Start again");
    const cells = STAGES.map(() => [make("td"), make("td")]);
    const score = make(
      "table",
      { class: "icons-score" },
      make("caption", {}, "Right so far"),
      make("thead", {}, make("tr", {}, ...["from", "you", "a model"].map((h) => make("th", { scope: "col" }, h)))),
      make("tbody", {}, ...STAGES.map((s, i) => make("tr", {}, make("th", { scope: "row" }, s), ...cells[i]))),
    );

    function count() {
      STAGES.forEach((_, stage) => {
        const asked = rounds.filter((_, i) => guesses[i].length > stage);
        const right = (of) => rounds.filter((r, i) => guesses[i].length > stage && of(r, i) === r.truth).length;
        const shares = [right((_, i) => guesses[i][stage]), right((r) => r.said[stage])];
        cells[stage].forEach((cell, j) => {
          cell.textContent = asked.length ? `${shares[j]} of ${asked.length}` : "–";
        });
      });
    }

    function guess(choice) {
      guesses[now].push(choice);
      show();
      const target = guesses[now].length < STAGES.length ? buttons.querySelector("button") : next.hidden ? again : next;
      target.focus({ preventScroll: true });
    }

    function show() {
      const round = rounds[now];
      const stage = guesses[now].length;
      const over = stage === STAGES.length;
      frames.forEach((frame, i) => {
        frame.hidden = i !== now;
      });
      boxes[now].forEach((box, i) => {
        box.hidden = i >= Math.min(stage, 2); // the answer is told below, with the guesses
        box.open = i < stage;
      });
      buttons.replaceChildren();
      if (over) {
        const told = STAGES.map((name, i) => `from ${name} you “${guesses[now][i]}”, a model “${round.said[i]}”`);
        status.textContent = `It is “${round.truth}”. You said: ${told.join("; ")}.`;
      } else {
        status.textContent = `Icon ${now + 1} of ${rounds.length}. What is it for? Guess from ${STAGES[stage]}.`;
        for (const choice of round.choices) {
          const button = make("button", { type: "button" }, choice);
          button.addEventListener("click", () => guess(choice));
          buttons.append(button);
        }
      }
      buttons.setAttribute("aria-label", over ? "No question" : `What icon ${now + 1} is for`);
      next.hidden = !over || now === rounds.length - 1;
      again.hidden = !over || now < rounds.length - 1;
      count();
    }

    next.addEventListener("click", () => {
      now += 1;
      show();
      buttons.querySelector("button").focus({ preventScroll: true });
    });
    again.addEventListener("click", () => {
      guesses.forEach((one) => one.splice(0));
      now = 0;
      show();
      buttons.querySelector("button").focus({ preventScroll: true });
    });
    element.querySelector(".icons-rounds").after(status, buttons, make("div", {}, next, again), score);
    show();
  }

  begin(".icons", start);
})();
