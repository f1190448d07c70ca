// The content-security policy lets no inline style in, and plotly writes some. Each of them has a way that the policy leaves open, and this
// script, which runs before plotly, takes it. Verified with plotly.js 4.1; the browser test fails where a later one finds another.

// Style attributes that are set as text go through the style object, which is not inline style.
const setAttribute = Element.prototype.setAttribute;
Element.prototype.setAttribute = function (name, value) {
  if (name === "style" && this.style) this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

// The style sheet of plotly's maps, which no page here has, is put in unless an element of this id stands already.
const maps = document.createElement("meta");
maps.id = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";
document.head.append(maps);
