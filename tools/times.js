// For tools/benchmark.py: how long the page takes from an input event to the end of the frame that drew its garment.
// The message arrives after the frame that the drawing belongs to; a picture is drawn in the frame after its load.
window.times = [];
(() => {
  let begin = 0;
  const frame = new MessageChannel();
  frame.port1.onmessage = () => {
    if (begin) times.push(performance.now() - begin);
    begin = 0;
  };
  const drawn = () => frame.port2.postMessage(0);
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    put.apply(this, given);
    drawn();
  };
  const mark = (event) => {
    if (event.buttons || event.key?.startsWith("Arrow")) begin ||= event.timeStamp;
  };
  for (const name of ["pointermove", "keydown"]) addEventListener(name, mark, true);
  document.addEventListener("load", (event) => event.target.tagName === "IMG" && requestAnimationFrame(drawn), true);
})();

window.countFrames = () => {
  window.counting = true;
  window.frameTimes = [];
  const step = (now) => {
    frameTimes.push(now);
    if (counting) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
};
