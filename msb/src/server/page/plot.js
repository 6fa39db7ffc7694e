// A plot of values over time.
"use strict";

// Draws `values`, a number or null every so often, so that the newest is at the right and `room` of them fit. The top of the
// plot is a round number above all of them, and at least `least`.
function plot(canvas, values, room, least) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const style = getComputedStyle(document.body);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.clearRect(0, 0, width, height);
  const top = roundUp(Math.max(least, ...values.filter((value) => value !== null)));
  const x = (at) => width - (values.length - 1 - at) * (width / (room - 1));
  const y = (value) => height - 2 - (value / top) * (height - 16);

  context.strokeStyle = style.color;
  context.fillStyle = style.color;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "top";
  for (const part of [0.5, 1]) {
    context.globalAlpha = 0.18;
    context.beginPath();
    context.moveTo(0, y(top * part));
    context.lineTo(width, y(top * part));
    context.stroke();
    context.globalAlpha = 0.6;
    context.fillText(String(top * part), 4, y(top * part) + 2);
  }
  context.globalAlpha = 1;
  context.lineWidth = 1.8;
  context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = "#3b8eea";
  let from = null;
  const end = (to) => {
    if (from === null) return;
    context.stroke();
    context.lineTo(x(to), height);
    context.lineTo(x(from), height);
    context.globalAlpha = 0.15;
    context.fill();
    context.globalAlpha = 1;
    from = null;
  };
  values.forEach((value, at) => {
    if (value === null) return end(at - 1);
    if (from === null) {
      from = at;
      context.beginPath();
      context.moveTo(x(at), y(value));
    } else context.lineTo(x(at), y(value));
    return undefined;
  });
  end(values.length - 1);
}

// 1, 2 or 5, times a power of ten.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= value);
}
