"use strict";
(() => {
  const box = document.getElementById("find");
  if (!box) return;
  const told = document.getElementById("told");
  const rows = [...document.querySelectorAll("#rows tbody")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const look = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      found += !row.hidden;
    });
    told.textContent = words.length ? `${found} of ${rows.length} rows` : "";
  };
  box.addEventListener("input", look);
  document.getElementById("search").hidden = false;
  look();
})();
