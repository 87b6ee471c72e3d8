
/* Groups of a fairness field beside one another, and the measures of how far they are apart. */

const RATES = ["positive_rate", "true_positive_rate", "false_positive_rate", "calibration_error"];
const range = rate => rate?.value == null ? NONE
  : number(rate.value) + (rate.low == null ? "" : ` (${number(rate.low)} to ${number(rate.high)})`);

function fairness(answer) {
  return answer.fields.map(field => {
    const rates = RATES.filter(name => field.groups.some(group => group[name]?.value != null));
    const rows = field.groups.map(group => row(group.group, count(group.outcomes), ...rates.map(name => range(group[name]))));
    const measures = Object.entries(field.measures).map(([name, measure]) =>
      row(name.replaceAll("_", " "), range(measure), words(whisker(measure, 0, 1))));
    return el("div", {}, el("h3", {}, field.field, el("span", { className: "dim" }, `, ${field.version}`), field.champion && tag("champion", "promotion")),
      table(`groups of ${field.field} by ${field.version}`, ["group", "outcomes", ...rates.map(name => name.replaceAll("_", " "))], el("tbody", {}, rows)),
      measures.length > 0 && table(`fairness of ${field.field} by ${field.version}`, ["difference between groups", "", { text: "0 to 1", words: true }], el("tbody", {}, measures)),
      !field.enough && note("Two groups need 30 outcomes with either label for a verdict."));
  });
}
