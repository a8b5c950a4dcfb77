/** Swipe: a card that a finger or a pen pushes sideways is dismissed. Used by toast_view.js. */

const FAR_PX = 60; // pushed so far, it is meant
const FAST_PX_MS = 0.35; // a flick is meant too
const SLACK_PX = 6; // a finger that taps moves that much

/**
 * Not for the mouse: it selects text, and has a button to click.
 * @param {HTMLElement} card its stylesheet leaves sideways touches to us
 * @param {(towards: number) => void} onaway pushed away to the left (-1) or to the right (1)
 */
export function swipe(card, onaway) {
  /** @type {PointerEvent | null} */ let start = null;
  let by = 0;
  card.onpointerdown = (event) => {
    by = 0;
    start = event.pointerType !== "mouse" && event.isPrimary ? event : null;
  };
  card.onpointermove = (event) => {
    if (!start) return;
    const x = event.clientX - start.clientX;
    if (!by) {
      if (Math.abs(x) < SLACK_PX + Math.abs(event.clientY - start.clientY)) return;
      card.setPointerCapture(event.pointerId);
    }
    by = x;
    card.style.translate = `${by}px`;
  };
  card.onpointerup = card.onpointercancel = ({ type, timeStamp }) => {
    if (!start || !by) return;
    const fast = Math.abs(by) / (timeStamp - start.timeStamp) > FAST_PX_MS;
    start = null;
    if (type === "pointerup" && (fast || Math.abs(by) > FAR_PX)) return onaway(Math.sign(by));
    const { translate } = card.style;
    card.style.translate = "";
    card.animate([{ translate }, {}], 200);
  };
  // What ends a swipe is no click on the link below the finger.
  card.addEventListener("click", (event) => by && event.preventDefault(), true);
}
