({
  // Texts whose contrast to what is behind them is less than 4.5 (WCAG 2.2, 1.4.3).
  pale() {
    const parsed = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = (colour) => {
      const [red, green, blue] = colour.map((part) => {
        const value = part / 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const colour = parsed(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour.slice(0, 3);
      }
      return [255, 255, 255];
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.data.trim();
      if (!text || element.closest("noscript") || !element.checkVisibility()) continue;
      const ink = parsed(getComputedStyle(element).color).slice(0, 3);
      const [light, dark] = [ink, ground(element)].map(luminance).sort((a, b) => b - a);
      const contrast = (light + 0.05) / (dark + 0.05);
      if (contrast < 4.5) found.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return found;
  },

  // What can be operated and has no name for those who cannot see it.
  nameless() {
    const operated = "a, button, input, select, textarea, audio, meter, dialog, [role=log], [role=group]";
    const named = (one) =>
      one.innerText?.trim() || one.ariaLabel || one.labels?.length || one.getAttribute("aria-labelledby");
    const seen = [...document.querySelectorAll(operated)].filter((one) => one.checkVisibility());
    return seen.filter((one) => !named(one)).map((one) => one.outerHTML.slice(0, 80));
  },
})
