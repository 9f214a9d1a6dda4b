// Counts, as `live`, the maps whose size the page still watches.
(() => {
  window.live = 0;
  const Real = window.ResizeObserver;
  window.ResizeObserver = class extends Real {
    observe(target, options) {
      if (target.classList.contains("map")) {
        this.ours = true;
        live++;
      }
      super.observe(target, options);
    }
    disconnect() {
      if (this.ours) live--;
      super.disconnect();
    }
  };
})();
