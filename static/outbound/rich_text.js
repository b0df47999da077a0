/* What Trix, the editor of the theme, gets wrong. Loaded after it and before the page, so before the first editor. */
{
  /* Trix puts neighbouring blocks of one kind into one element: right for the items of a list, each of which has an
     element of its own inside, but two paragraphs, quotes or pieces of code would become one, their words joined. */
  const block = window.Trix.models.Block.prototype;
  const { canBeGroupedWith } = block;
  const endsAt = (one, depth) => one.getAttributeLevel() === depth + 1;
  block.canBeGroupedWith = function (next, depth) {
    return canBeGroupedWith.call(this, next, depth) && !(endsAt(this, depth) && endsAt(next, depth));
  };

  /* Trix writes a text anew when it opens it, and again when it knows the size of a picture, and loses what it does not
     know itself, such as a table. A text that nobody edited stays as it was. */
  const withoutSizes = (html) => html.replace(/ (?:data-trix-attachment|width|height)="[^"]*"/g, "");
  document.addEventListener("trix-initialize", ({ target }) => {
    const input = target.inputElement;
    const given = target.defaultValue;
    const opened = withoutSizes(input.value);
    const keep = () => { if (withoutSizes(input.value) === opened) input.value = given; };
    keep();
    target.addEventListener("trix-change", keep);
  }, { capture: true }); /* Before the inbox puts a draft into the editor. */
}
