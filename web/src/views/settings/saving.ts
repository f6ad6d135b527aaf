/** A form's save: busy, the wrong fields, or one sentence of what went wrong or right. */

import { useState } from "preact/hooks";
import { asApiError } from "../../api";
import type { FieldError } from "../../contract";

export function useSaving() {
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<FieldError[]>([]);
  const [problem, setProblem] = useState("");
  const [good, setGood] = useState("");
  const save = async (work: () => Promise<string>): Promise<boolean> => {
    setBusy(true);
    setWrong([]);
    setProblem("");
    setGood("");
    try {
      setGood(await work());
      return true;
    } catch (thrown) {
      const error = asApiError(thrown);
      setWrong(error.fields);
      if (error.fields.length === 0) setProblem(error.sentence);
      return false;
    } finally {
      setBusy(false);
    }
  };
  const errorOf = (field: string) => wrong.find((one) => one.field === field);
  const elsewhere = (known: readonly string[]) =>
    wrong.filter((one) => !known.includes(one.field)).map((one) => `${one.field}: ${one.wrong}; ${one.right}`).join(" ");
  return { busy, problem, good, save, errorOf, elsewhere };
}
