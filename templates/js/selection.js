// Ranks the available workers by their free GPU memory.

export function select(context, job, workers) {
  const choices = [];
  const leftOut = [];
  workers.forEach((worker, index) => {
    if (worker.status.tag === 'available') {
      const mib = freeMib(worker);
      choices.push({ index, score: Number(mib), reason: `${mib} MiB of GPU memory free` });
    } else {
      leftOut.push({ index, reason: 'not available' });
    }
  });
  choices.sort((a, b) => b.score - a.score);
  return { choices, leftOut };
}

// Free memory of the GPU that has most of it, as a BigInt. Total memory stands in for a value not
// measured.
function freeMib(worker) {
  const free = worker.gpus.map((gpu) => gpu.memoryFreeMib ?? gpu.memoryMib);
  return free.reduce((most, mib) => (mib > most ? mib : most), 0n);
}
