/* Guess which song was heard, then see what a recogniser said.

   Every <div class="listening"> of the page brings players and the answers in folded boxes; this
   asks for a guess before a box can be seen, moves a line over the spectrograms while a sound is
   played, and keeps the score. Nothing leaves the page. */
"use strict";
(() => {
  const { make, begin } = elements;
  const NONE = "none of these";

  const named = (name) => (name ? `song ${name}` : NONE);

  /* A line over each picture that shows where the sound is. */
  function follow(sound) {
    const audio = sound.querySelector("audio");
    const lines = [...sound.querySelectorAll(".listening-picture")].map((picture) => {
      const line = make("span", { class: "listening-now", hidden: "" });
      picture.append(line);
      return line;
    });
    const move = () => {
      const part = audio.duration ? audio.currentTime / audio.duration : 0;
      for (const line of lines) {
        line.hidden = part === 0;
        line.style.left = `${100 * part}%`;
      }
      if (!audio.paused && !audio.ended) requestAnimationFrame(move);
    };
    for (const event of ["play", "seeked", "ended", "timeupdate"]) audio.addEventListener(event, move);
  }

  function start(element) {
    const names = JSON.parse(element.dataset.names);
    const sounds = [...element.querySelectorAll(".listening-sound")];
    const guesses = new Map();
    const score = make("p", { class: "listening-score", role: "status" });
    const again = make("button", { type: "button", class: "listening-again" }, "Start again");

    function count() {
      const right = (of) => sounds.filter((s) => guesses.has(s) && of(s) === s.dataset.truth).length;
      const asked = guesses.size;
      score.textContent = asked
        ? `Right so far: you ${right((s) => guesses.get(s))} of ${asked}, ` +
          `the recogniser ${right((s) => s.dataset.said)} of ${asked}.`
        : "Play the sounds, and guess.";
      again.hidden = !asked;
    }

    const resets = sounds.map((sound, number) => {
      const box = sound.querySelector("details");
      const answer = make("p", { class: "listening-answer", role: "status" });
      const buttons = [...names, ""].map((name) => {
        const button = make("button", { type: "button", "aria-pressed": "false" }, named(name));
        button.addEventListener("click", () => {
          if (guesses.has(sound)) return;
          guesses.set(sound, name);
          const right = name === sound.dataset.truth;
          button.setAttribute("aria-pressed", "true");
          answer.textContent = right
            ? `Right: it was ${sound.dataset.truth ? named(name) : "a song that is not on file"}.`
            : `No: it was ${sound.dataset.truth ? named(sound.dataset.truth) : "a song that is not on file"}.`;
          for (const other of buttons) other.setAttribute("aria-disabled", "true");
          box.hidden = false;
          box.open = true;
          count();
        });
        return button;
      });
      const label = `Sound ${number + 1} is`;
      const group = make("div", { class: "listening-guess", role: "group", "aria-label": label });
      group.append(make("span", {}, label), ...buttons);
      box.before(group, answer);
      follow(sound);
      return () => {
        box.hidden = true;
        box.open = false;
        answer.textContent = "";
        for (const button of buttons) {
          button.setAttribute("aria-pressed", "false");
          button.setAttribute("aria-disabled", "false");
        }
      };
    });

    const reset = () => {
      guesses.clear();
      for (const one of resets) one();
      count();
    };
    again.addEventListener("click", () => {
      reset();
      sounds[0].querySelector("button").focus();
    });
    element.querySelector(".listening-sounds").after(make("div", { class: "listening-end" }, score, again));
    reset();
  }

  begin(".listening", start);
})();
