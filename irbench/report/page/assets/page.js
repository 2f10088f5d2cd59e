// The script of the page: pages by address, tables, origins, downloads, the slider. It connects
// sortable.min.js, img-comparison-slider.js and the dialog of the browser with the page content.
"use strict";
{
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const make = (tag, text = "", properties = {}) =>
    Object.assign(document.createElement(tag), { textContent: text }, properties);
  const root = document.documentElement;

  // -- one section at a time: the section of the address, or else the overview -------------------
  const main = document.querySelector("main");
  const sections = all(":scope > section", main);
  const links = all("nav a");
  let current = null;
  const route = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    const target = name ? document.getElementById(name) : null;
    if (target === main) return;                // the skip link stays on its page
    const every = name === "all";
    const section = target?.closest("main > section") ?? sections[0];
    root.classList.toggle("all", every);
    sections.forEach((one) => one.classList.toggle("shown", every || one === section));
    links.forEach((link) => {
      const here = link.hash === (every ? "#all" : `#${section.id}`);
      here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
      if (here) link.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    for (let one = target?.closest("details"); one; one = one.parentElement.closest("details"))
      one.open = true;
    if (target && target !== section) target.scrollIntoView();
    else scrollTo(0, 0);
    if (current && current !== section) section.querySelector("h2").focus({ preventScroll: true });
    current = section;
  };
  addEventListener("hashchange", route);
  root.classList.add("routed");

  // -- tables: sorting by the library, filters, columns, what a cell shows -----------------------
  all("table.sortable thead tr:last-child th:not(.no-sort)").forEach((head) => {
    const button = make("button", "", { type: "button", className: "sort" });
    button.append(...head.childNodes);
    head.append(button);
  });
  // names, and metrics where lower is better, are first sorted ascending
  addEventListener("click", ({ target }) => {
    const head = target.closest?.("table.sortable thead th");
    head?.closest("table").classList.toggle("asc", head.dataset.first === "ascending");
  }, true);

  const columns = (table, set) => {
    all("[data-set]", table).forEach((one) => { one.hidden = set && one.dataset.set !== set; });
    all("[data-sets]", table).forEach((one) => {
      const sets = one.dataset.sets.split(" ");
      one.dataset.span ??= one.colSpan;
      one.hidden = set && !sets.includes(set);
      one.colSpan = set && !one.hidden ? all(`thead [data-set="${set}"]`, table).length
        : one.dataset.span;
    });
  };
  all(".tools[data-for]").forEach((tools) => {
    const table = document.getElementById(tools.dataset.for);
    const rows = all("tbody tr:not(.rule)", table);
    const output = tools.querySelector("output");
    const filter = tools.querySelector("input[type=search]");
    const unfold = table.querySelector("button.unfold");
    const count = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      });
      // of a table whose published rows are folded, a filter shows them too; repeated cells as well
      table.classList.toggle("filtered", words.length > 0);
      const folded = table.matches(".folded:not(.filtered)");
      const shown = rows.filter((row) => !row.hidden && !(folded && row.closest(".published"))).length;
      output.value = `${shown} of ${rows.length} rows shown`;
      all(".rule", table).forEach((rule) => {   // a heading without rows goes too
        rule.hidden = !rows.some((row) => !row.hidden && row.closest("tbody.published"));
      });
    };
    filter.addEventListener("input", count);
    unfold?.addEventListener("click", () => {
      const open = !table.classList.toggle("folded");
      unfold.setAttribute("aria-expanded", open);
      unfold.textContent = unfold.textContent.replace(/^\w+/, open ? "Hide" : "Show");
      count();
    });
    tools.querySelector("select")?.addEventListener("change", (event) =>
      columns(table, event.target.value));
    all("input[type=checkbox]", tools).forEach((box) => box.addEventListener("change", () =>
      table.classList.toggle(box.dataset.show, box.checked)));
    count();
  });

  // a table, a plot or the navigation that is wider than its box fades at the edge that hides the
  // rest; a plot that is wider than a phone can be scrolled by keyboard
  all(".scroll, .picture, nav ul").forEach((box) => {
    const edge = () => {
      box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
      if (box.matches(".picture")) box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
    };
    box.addEventListener("scroll", edge, { passive: true });
    const watch = new ResizeObserver(edge);
    [box, ...box.children].forEach((one) => watch.observe(one));
  });

  // -- where a value comes from ------------------------------------------------------------------
  const known = read("origins");
  const dialog = document.getElementById("origin");
  const describe = (link, origin) => {
    const body = dialog.querySelector(".body");
    const list = make("dl");
    const figure = link.dataset.figure;
    [...(figure ? [["Value", false, figure]] : []),
      ...origin.facts.map(([term, text]) => [...known.terms[term], known.texts[text]])]
      .forEach(([term, code, text]) => {
        const value = make("dd");
        value.append(code ? make("code", text) : text);
        if (term === "Command" && navigator.clipboard) {
          const copy = make("button", "Copy", { type: "button", className: "copy" });
          copy.addEventListener("click", () => navigator.clipboard.writeText(text).then(
            () => { copy.textContent = "Copied"; }, () => { copy.textContent = "Not allowed"; }));
          value.append(" ", copy);
        }
        list.append(make("dt", term), value);
      });
    body.replaceChildren(list);
    if (origin.note) body.append(make("p", origin.note));
    if (origin.rows) {
      const line = (row, tag) => {
        const made = make("tr");
        made.append(...row.map((text, i) => make(i ? tag : "th", text, i ? {} : { scope: "row" })));
        return made;
      };
      const table = make("table");
      table.append(make("thead"), make("tbody"));
      table.tHead.append(line(origin.heads, "th"));
      table.tBodies[0].append(...origin.rows.map((row) => line(row, "td")));
      const details = make("details");
      details.append(make("summary", `Scores of its ${origin.rows.length} images`), table);
      details.open = origin.rows.length <= 8;
      body.append(details);
    }
    const more = make("p");
    more.append(make("a", "Among all records and sources", { href: link.hash }));
    more.firstChild.addEventListener("click", () => dialog.close());
    body.append(more);
  };
  let opener = null;
  main.addEventListener("click", (event) => {
    const link = event.target.closest("a.origin");
    const origin = link && known.origins[link.hash.slice(1)];
    if (!origin || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    dialog.querySelector("h2").textContent = origin.title;
    describe(link, origin);
    opener = link;
    dialog.showModal();
    dialog.scrollTop = 0;
  });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => opener?.focus());

  // -- downloads ---------------------------------------------------------------------------------
  const save = (blob, name) => {
    const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  all("a[data-png]").forEach((link) => link.addEventListener("click", async (event) => {
    event.preventDefault();
    const image = link.closest("figure").querySelector("img");
    await image.decode();
    const canvas = make("canvas", "", { width: image.naturalWidth, height: image.naturalHeight });
    canvas.getContext("2d").drawImage(image, 0, 0);
    // not toBlob: a busy browser delays it for seconds
    save(new Blob([bytes(canvas.toDataURL("image/png").split(",")[1])], { type: "image/png" }),
      link.download);
  }));
  all("a[data-packed]").forEach((link) => link.addEventListener("click", async (event) => {
    event.preventDefault();
    const stream = new Blob([bytes(link.dataset.packed)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const content = await new Response(stream).arrayBuffer();
    save(new Blob([content]), link.download);
  }));

  // -- two images, one above the other, with a divider to move -----------------------------------
  const compared = read("comparisons");
  const everything = all(".compare[data-task]").flatMap(({ dataset }) => compared[dataset.task] ?? [])
    .sort((a, b) => b.lead - a.lead);
  all(".compare").forEach((figure) => {
    const { task } = figure.dataset;          // without one, on the overview: those of all tasks
    const ones = task ? compared[task] : everything;
    const slider = figure.querySelector("img-comparison-slider");
    const which = figure.querySelector("select[data-which]");
    const sides = all("select[data-side]", figure);
    const tell = () => slider.setAttribute("aria-valuenow", Math.round(slider.value));
    const show = () => {
      const one = ones[which.value];
      const chosen = sides.map((side) => one.versions[side.value]);
      slider.style.setProperty("--shape", one.width / one.height);
      slider.style.setProperty("--wide", one.width);
      chosen.forEach((version, i) => {
        const image = slider.querySelector(`[slot=${i ? "second" : "first"}]`);
        image.src = version.src;
        image.alt = `${version.label}, ${one.title}`;
        figure.querySelectorAll(".under span")[i].replaceChildren(
          make("b", version.label), version.scores && ` ${version.scores}`);
      });
      slider.setAttribute("aria-label",
        `Divider: ${chosen[0].label} on its left, ${chosen[1].label} on its right`);
      figure.querySelector(".note").textContent = one.note;
      tell();
    };
    const choose = () => {
      const { versions, first } = ones[which.value];
      sides.forEach((side, i) => {
        const before = side.selectedOptions[0]?.textContent;
        side.replaceChildren(...versions.map(({ label }, n) =>
          make("option", label, { value: n })));
        const same = versions.findIndex(({ label }) => label === before);
        side.value = same >= 0 ? same : first[i];
      });
      show();
    };
    which.replaceChildren(...ones.map((one, n) =>
      make("option", task ? one.title : `${one.task}, ${one.title}`, { value: n })));
    which.closest("label").hidden = ones.length < 2;
    which.addEventListener("change", choose);
    sides.forEach((side) => side.addEventListener("change", show));
    slider.addEventListener("slide", tell);
    slider.addEventListener("keydown", (event) => {
      const to = { Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      slider.value = to;
      tell();
    });
    choose();
  });
  route();
}
