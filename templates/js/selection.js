// Which worker should get a job: the available one with the most free GPU memory.

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

// Free memory of the GPU that has most; where it was not measured, its total. A BigInt.
function freeMib(worker) {
  const free = worker.gpus.map((gpu) => gpu.memoryFreeMib ?? gpu.memoryMib);
  return free.reduce((most, mib) => (mib > most ? mib : most), 0n);
}
