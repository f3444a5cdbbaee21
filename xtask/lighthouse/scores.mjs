// Prints the scores in reports of Lighthouse, and fails where one is too low.
import { readFileSync } from "node:fs";

const least = { accessibility: 1, "best-practices": 0.95 };
let failed = false;
for (const file of process.argv.slice(2)) {
  const report = JSON.parse(readFileSync(file));
  for (const [name, wanted] of Object.entries(least)) {
    const { score, auditRefs } = report.categories[name];
    console.log(`${file.split("/").pop()}: ${name} ${Math.round(score * 100)}`);
    if (score >= wanted) continue;
    failed = true;
    const audits = auditRefs.map(({ id, weight }) => [report.audits[id], weight]);
    for (const [audit] of audits.filter(([audit, weight]) => weight > 0 && audit.score < 1)) {
      console.log(`  ${audit.title}`);
      for (const item of audit.details?.items ?? []) {
        console.log(`    ${item.node?.snippet ?? JSON.stringify(item)}`);
      }
    }
  }
}
process.exit(failed ? 1 : 0);
