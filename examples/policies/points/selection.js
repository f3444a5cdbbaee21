// Ranks the workers by points.
//
// A worker gets a point for each GiB of free GPU memory (half a point if the GPU is fully used), five
// points for each free slot, and the points that `settings` gives to its tags and its host name:
// `{ attic = 40 }`.

export function select(context, job, workers) {
  const extra = extraPoints(context.settings);
  const choices = [];
  const leftOut = [];
  workers.forEach((worker, index) => {
    if (worker.status.tag !== 'available') {
      leftOut.push({ index, reason: `status: ${worker.status.tag}` });
      return;
    }
    const memory = Math.max(0, ...worker.gpus.map(memoryPoints));
    const slots = 5 * worker.slotsFree;
    const named = [worker.hostname, ...worker.tags].reduce((sum, name) => sum + (extra.get(name) ?? 0), 0);
    const reason = `${memory.toFixed(1)} for memory, ${slots} for slots, ${named} by name`;
    choices.push({ index, score: memory + slots + named, reason });
  });
  choices.sort((a, b) => b.score - a.score);
  return { choices, leftOut };
}

// Memory sizes are 64 bits wide and therefore BigInts.
function memoryPoints(gpu) {
  const gib = Number(gpu.memoryFreeMib ?? gpu.memoryMib) / 1024;
  return gib * (1 - (gpu.utilization ?? 0) / 2);
}

function extraPoints(settings) {
  const extra = new Map();
  for (const { key, value } of settings) {
    if (value.tag !== 'integer' && value.tag !== 'number') {
      throw `settings: \`${key}\` must be a number of points`;
    }
    extra.set(key, Number(value.val));
  }
  return extra;
}
