// Estimates half a minute for each epoch.

const MINUTES_PER_EPOCH = 0.5;

export function estimate(context, job, worker) {
  // Absent values are null or undefined.
  if (job.epochs == null) return undefined;
  // The engine passes a u32 as a signed number: `>>> 0` makes it unsigned.
  const minutes = (job.epochs >>> 0) * MINUTES_PER_EPOCH;
  return { minutes, low: minutes / 2, high: minutes * 2, confidence: 0.5 };
}
