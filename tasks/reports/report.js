"use strict";
const root = document.documentElement, button = document.getElementById("theme");
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { button.textContent = dark() ? "Light" : "Dark"; };
button.hidden = false;
button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
name();
// a title is slow to come, and does not come at all on a touch screen
const tip = document.createElement("div");
tip.className = "tip"; tip.hidden = true; document.body.append(tip);
document.querySelectorAll(".plot").forEach((plot) => {
  plot.querySelectorAll("title").forEach((one) => { one.parentNode.dataset.told = one.textContent; one.remove(); });
  plot.addEventListener("pointerover", (event) => {
    const told = event.target.dataset ? event.target.dataset.told : "";
    tip.hidden = !told;
    if (!told) return;
    tip.textContent = told;
    const box = event.target.getBoundingClientRect(), half = tip.offsetWidth / 2;
    const middle = Math.min(Math.max(box.x + box.width / 2, half + 8), innerWidth - half - 8);
    tip.style.left = `${middle - half}px`;
    tip.style.top = `${box.y > tip.offsetHeight + 16 ? box.y - tip.offsetHeight - 8 : box.bottom + 8}px`;
  });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });
});
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
