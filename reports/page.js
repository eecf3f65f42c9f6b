"use strict";
// Without scripts, the page shows all runs and no field. Words can be given in the address: index.html#show=mtl%20failed
{
  const label = document.getElementById("filter"), field = label.querySelector("input");
  const rows = document.querySelectorAll(".filtered tbody tr");
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = true;
    for (const row of rows) {
      // The error is in a separate row below the run.
      if (!row.classList.contains("reason"))
        shown = words.every(word => (row.textContent + row.dataset.words).toLowerCase().includes(word));
      row.hidden = !shown;
    }
  };
  const start = new URLSearchParams(location.hash.slice(1)).get("show");
  if (start) field.value = start;
  field.addEventListener("input", show);
  label.hidden = false;
  show();
}
