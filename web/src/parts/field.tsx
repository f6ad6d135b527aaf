/** A form field: what is wrong stands at it, in a trader's words, with what would be right. */

import type { ComponentChildren } from "preact";
import type { FieldError } from "../contract";

interface Props {
  name: string;
  label: string;
  value: string;
  onInput: (value: string) => void;
  onBlur?: () => void;
  error?: FieldError | undefined;
  hint?: string;
  secret?: boolean;
  options?: readonly (string | { value: string; label: string })[];
  suggestions?: readonly string[];
  disabled?: boolean;
  autocomplete?: string;
  inputMode?: "decimal" | "numeric" | "text";
  children?: ComponentChildren;
}

export function Field(props: Props) {
  const { name, label, value, error, hint } = props;
  const id = `f-${name}`;
  const hintId = hint && !error ? `${id}-hint` : "";
  const about = error ? `${id}-error` : hintId;
  const common = {
    id,
    name,
    disabled: props.disabled ?? false,
    "aria-invalid": error !== undefined,
    "aria-describedby": about === "" ? undefined : about,
    "data-testid": `field-${name}`,
    onBlur: () => props.onBlur?.(),
  };
  const heard = (event: Event) => props.onInput((event.currentTarget as HTMLInputElement | HTMLSelectElement).value);
  const typed = {
    value,
    onInput: heard,
    autocomplete: props.autocomplete ?? "off",
    inputMode: props.inputMode ?? "text",
    spellcheck: false,
  } as const;
  return (
    <div class={`field ${error ? "field-wrong" : ""}`}>
      <label for={id}>{label}</label>
      {props.options ? (
        <select {...common} value={value} onChange={heard}>
          {props.options.map((option) => {
            const one = typeof option === "string" ? { value: option, label: option } : option;
            return (
              <option key={one.value} value={one.value} selected={one.value === value}>
                {one.label}
              </option>
            );
          })}
        </select>
      ) : props.secret ? (
        <input {...common} {...typed} type="password" />
      ) : (
        <input {...common} {...typed} list={props.suggestions ? `${id}-list` : undefined} />
      )}
      {props.suggestions && (
        <datalist id={`${id}-list`}>
          {props.suggestions.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
      )}
      {error && (
        <p class="field-error" id={`${id}-error`} data-testid={`error-${name}`}>
          {error.wrong}
          {error.right !== "" && <span class="right">; {error.right}</span>}
        </p>
      )}
      {hintId !== "" && (
        <p class="hint" id={hintId}>
          {hint}
        </p>
      )}
      {props.children}
    </div>
  );
}
