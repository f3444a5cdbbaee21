// Refuses jobs that train longer than the setting `max-epochs` allows.

export function check(context, job, worker) {
  const limit = context.settings.find((setting) => setting.key === 'max-epochs')?.value;
  // Absent values are null or undefined.
  if (limit == null || job.epochs == null) return { tag: 'yes' };
  // A thrown string becomes the error of the contract.
  if (limit.tag !== 'integer') throw 'settings: `max-epochs` must be a whole number';
  // The engine passes a u32 as a signed number: `>>> 0` makes it unsigned.
  const epochs = job.epochs >>> 0;
  if (BigInt(epochs) <= limit.val) return { tag: 'yes' };
  const message = `trains at most ${limit.val} epochs, not ${epochs}`;
  return { tag: 'no', val: [{ code: 'my-policy.epochs', message }] };
}
