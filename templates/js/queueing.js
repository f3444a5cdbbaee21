// Lets short jobs go first. Jobs of which nobody knows how long they take come last.

export function order(context, worker, running, waiting) {
  // Seconds are BigInts, and absent ones null or undefined.
  const seconds = (job) => (job.takesS == null ? Infinity : Number(job.takesS));
  const places = waiting.map((job, index) => ({ index, seconds: seconds(job) }));
  // Stable: of two jobs that take equally long, the one that came first goes first.
  places.sort((a, b) => (a.seconds === b.seconds ? 0 : a.seconds - b.seconds));
  return places.map(({ index, seconds }) => ({ index, reason: reason(seconds) }));
}

function reason(seconds) {
  return seconds === Infinity ? 'nobody knows how long it takes' : `takes ${Math.ceil(seconds / 60)} min`;
}
