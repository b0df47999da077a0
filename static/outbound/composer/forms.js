/* The forms for a message: the composer with its steps, and the message to one person. */
import { notifyChanged } from "../console/page.js";
import { contentTexts, copyTextTo } from "./content.js";

const COMPANY_VARIABLE = /\{[{%][^}]*\bcompany\./;

function scrollToError() {
  const errors = [...document.querySelectorAll(".ob-error")];
  errors.find((line) => line.checkVisibility())?.scrollIntoView({ block: "center" });
}

const sharedMethods = {
  get hasSubject() { return this.channel !== "in_app" || this.format === "announcement"; },
  formChanged() { notifyChanged(); },
  /* Disable the buttons against a second click; the server also recognises a repeated form. */
  formSubmitted(event) {
    setTimeout(() => event.target.querySelectorAll("button[name=act], .ob-buttons button").forEach((button) => {
      button.disabled = true;
    }));
  },
  /* Enter in a text field must not press the form's first button. */
  ignoreEnter(event) {
    if (event.target.matches("input:not([type=checkbox], [type=radio], [type=file])")) event.preventDefault();
  },
};
/* Copied as descriptors, because spreading would call the getter. */
const withSharedMethods = (own) => Object.defineProperties(own, Object.getOwnPropertyDescriptors(sharedMethods));

export const composer = (channel = "", format = "") => withSharedMethods({
  channel, format, kind: "",
  init() {
    const chosen = (name) => this.$root.querySelector(`[name=${name}]:checked`)?.value;
    this.channel = chosen("channel") ?? this.channel;
    this.format = chosen("format") ?? this.format;
    this.kind = chosen("send_type") ?? this.kind;
    this.$watch("channel", copyTextTo);
    this.$root.addEventListener("trix-change", () => this.formChanged());
    this.$nextTick(scrollToError);
  },
});

export const directMessage = (way) => withSharedMethods({
  way, aboutCompany: false,
  get channel() { return { chat: "in_app", announcement: "in_app" }[this.way] ?? this.way; },
  get format() { return this.channel === "in_app" ? this.way : ""; },
  init() {
    const findCompanyVariable = () => {
      this.aboutCompany = contentTexts().some((text) => COMPANY_VARIABLE.test(text));
    };
    this.$watch("way", () => copyTextTo(this.channel));
    this.$root.addEventListener("trix-change", findCompanyVariable);
    this.$root.addEventListener("input", findCompanyVariable);
    this.$nextTick(findCompanyVariable);
    this.$nextTick(scrollToError);
  },
});
