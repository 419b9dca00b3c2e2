// A page that is read from disk may not start a worker, which the search is. There a hidden frame does the work: it
// loads the worker's script, and messages go to and fro as with a worker.
"use strict";
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const script = String(new URL(address, location.href));
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      (document.body || document.documentElement).append(this.frame);
      const inner = this.frame.contentWindow, page = this.frame.contentDocument;
      const load = (source) => new Promise((done) => {
        const element = page.createElement("script");
        element.src = source;
        element.onload = element.onerror = done;
        page.body.append(element);
      });
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inner.importScripts = (...sources) => sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
      this.loaded = load(script);
    }

    postMessage(data) {
      const inner = this.frame.contentWindow;
      this.loaded.then(() => inner.dispatchEvent(new inner.MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
