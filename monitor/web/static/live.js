// Says when the page no longer hears from the monitor: numbers that stand still must not look like calm.
(function () {
  "use strict";
  document.documentElement.classList.add("scripted");
  var failures = 0;
  function heard() {
    failures = 0;
    document.getElementById("stale").hidden = true;
  }
  function missed() {
    failures += 1;
    var note = document.getElementById("stale");
    if (failures >= 2 && note.hidden) {
      note.textContent = "The monitor does not answer. What you see is as of " + new Date().toLocaleTimeString() + ".";
      note.hidden = false;
    }
  }
  document.addEventListener("htmx:afterOnLoad", heard);
  document.addEventListener("htmx:sendError", missed);
  document.addEventListener("htmx:timeout", missed);
  document.addEventListener("htmx:responseError", missed);
})();
