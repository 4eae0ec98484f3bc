// A steady clock for the test card.
let timer = 0;
onmessage = ({ data }) => {
  clearInterval(timer);
  timer = setInterval(() => postMessage(0), data.interval_ms);
};
