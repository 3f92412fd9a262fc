/* Play an iterated prisoner's dilemma against policies that remember one round.

   Every <div class="dilemma"> of the page brings the policies as JSON, and for each of them what a
   naive learner becomes who meets it; this adds the buttons, the rounds and the comparison after
   every ten of them. Nothing leaves the page. */
"use strict";
(() => {
  const { make, begin } = elements;
  const ROUNDS = 20;
  const HALF = 10;
  const STATES = ["at first", "after CC", "after CD", "after DC", "after DD"];
  const WORDS = { C: "cooperated", D: "defected" };

  const points = (x) => (x > 0 ? "+" : x < 0 ? "−" : "") + Math.abs(x);
  const mean = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
  const share = (x) => (x === null ? "–" : x.toFixed(2));
  /* Which of the five states a player is in, its own action first. */
  const state = (mine, other) => (mine ? 1 + 2 * (mine === "D") + (other === "D") : 0);

  function start(element, number) {
    const data = JSON.parse(element.querySelector("script[type='application/json']").textContent);
    const [both, alone, tempted, none] = data.payoff.map(points);
    let rounds = [];

    const chosen = make("select", { id: `dilemma-player-${number}` });
    data.players.forEach((player, i) => chosen.append(make("option", { value: i }, player.name)));
    const again = make("button", { type: "button", class: "dilemma-again" }, "Start again");
    const buttons = Object.entries({ C: "Cooperate", D: "Defect" }).map(([action, word]) => {
      const key = make("kbd", { "aria-hidden": "true" }, action);
      const name = { type: "button", "aria-keyshortcuts": action };
      const button = make("button", name, word, key);
      button.addEventListener("click", () => play(action));
      return button;
    });
    const status = make("p", { class: "dilemma-status", role: "status" });
    const strip = make("table", { class: "dilemma-rounds" });
    const result = make("div", { class: "dilemma-result", tabindex: "-1" });
    const label = make("label", { for: chosen.id }, "You meet");
    const machine = make(
      "div",
      { class: "dilemma-machine" },
      make("div", { class: "dilemma-top" }, make("span", {}, label, " ", chosen), again),
      strip,
      status,
      make("div", { class: "dilemma-buttons", role: "group", "aria-label": "Your choice" }, ...buttons),
      result,
    );

    const total = (who) => rounds.reduce((sum, round) => sum + round.got[who], 0);
    const player = () => data.players[chosen.value];

    function play(action) {
      if (rounds.length === ROUNDS) return;
      const last = rounds.at(-1) ?? { you: "", it: "" };
      const chance = player().cooperates[state(last.it, last.you)];
      const it = Math.random() < chance ? "C" : "D";
      const pays = (mine, other) => data.payoff[state(mine, other) - 1];
      rounds.push({ you: action, it, was: state(last.you, last.it), got: [pays(action, it), pays(it, action)] });
      show();
      if (rounds.length === ROUNDS) result.focus({ preventScroll: true });
    }

    /* The reader's share of cooperation in each state, null where it never was. */
    function habits() {
      return STATES.map((_, s) => {
        const there = rounds.filter((round) => round.was === s);
        return there.length ? there.filter((round) => round.you === "C").length / there.length : null;
      });
    }

    function row(name, cells) {
      return make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)));
    }

    function compare() {
      const lessons = rounds.length; // one for each round that the reader has played
      const { learner, cooperates, name } = player();
      const columns = [
        ["You", mean(total(0) / lessons), mean(total(1) / lessons), ...habits().map(share)],
        [
          `A naive learner after ${lessons} lessons`,
          mean(learner.other[lessons]),
          mean(learner.own[lessons]),
          ...learner.policy[lessons].map(share),
        ],
      ];
      if (lessons === ROUNDS) columns.push([name, "", "", ...cooperates.map(share)]);
      const names = ["", "points a round", "points of the other side", ...STATES.map((one) => `cooperates ${one}`)];
      const [head, ...body] = names.map((one, i) => [one, ...columns.map((column) => column[i])]);
      const table = make(
        "table",
        {},
        make("thead", {}, make("tr", {}, ...head.map((cell) => make(cell ? "th" : "td", cell ? { scope: "col" } : {}, cell)))),
        make("tbody", {}, ...body.map(([one, ...cells]) => row(one, cells))),
      );
      const words =
        "CD: in the round before, oneself cooperated and the other defected. A lesson is a whole game, after which the learner goes one step uphill.";
      result.replaceChildren(table, make("p", {}, words));
    }

    function show() {
      const n = rounds.length;
      const line = (name, of) =>
        row(name, [...Array(ROUNDS)].map((_, i) => (rounds[i] ? rounds[i][of] : "·")));
      const caption = make("caption", {}, `Round by round`);
      strip.replaceChildren(caption, make("tbody", {}, line("You", "you"), line("It", "it")));
      strip.querySelectorAll("td").forEach((cell) => cell.classList.toggle("defects", cell.textContent === "D"));
      const last = rounds.at(-1);
      status.textContent = last
        ? `Round ${n}: you ${WORDS[last.you]}, it ${WORDS[last.it]}: ${points(last.got[0])} for you, ` +
          `${points(last.got[1])} for it. Together ${points(total(0))} and ${points(total(1))}.` +
          (n === ROUNDS ? " The game is over." : "")
        : `${ROUNDS} rounds. Both cooperate: ${both} for each. One defects: ${tempted} for it and ${alone} for the other. Both defect: ${none} for each.`;
      for (const button of buttons) button.setAttribute("aria-disabled", String(n === ROUNDS));
      if (n && n % HALF === 0) compare();
      else if (n < HALF) result.replaceChildren();
      again.hidden = !n;
    }

    function reset() {
      rounds = [];
      show();
    }

    again.addEventListener("click", () => {
      reset();
      buttons[0].focus();
    });
    chosen.addEventListener("change", reset);
    machine.addEventListener("keydown", (event) => {
      const action = event.key.toUpperCase();
      if (!(action in WORDS) || event.ctrlKey || event.metaKey || event.altKey || event.target === chosen) return;
      event.preventDefault();
      play(action);
    });
    element.prepend(machine);
    reset();
  }

  begin(".dilemma", start);
})();
