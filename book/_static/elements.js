/* What the scripts of the things to play with share: making elements, and where to begin. */
"use strict";
const elements = (() => {
  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const make = (tag, attributes = {}, ...children) =>
    fill(document.createElement(tag), attributes, children);
  /* The same for a part of a drawing. */
  const draw = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  /* Call build(element, number) for all that fit the selector, as soon as the page is read. */
  function begin(selector, build) {
    const start = () => document.querySelectorAll(selector).forEach(build);
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
    else start();
  }
  return { make, draw, begin };
})();
