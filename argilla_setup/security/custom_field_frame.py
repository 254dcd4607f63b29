"""Where a custom field runs: a page of its own, in an origin of its own, that can reach nothing but what it is given.

Argilla 2.8.0 puts a custom field's template, with the record written into it, into a frame of the web UI's own
origin: its scripts may read the labeler's sign-in token and act as the labeler. Here the frame loads `PAGE`, whose
policy makes it an origin of its own; the web UI sends it the text to show, and it sends back its height.
"""

from __future__ import annotations

PATH = "custom-field.html"
"""Beside the web UI's index.html."""

SANDBOX = "allow-scripts allow-popups allow-popups-to-escape-sandbox"
"""Scripts of the template run, and links of the template open a tab; nothing else."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        f"sandbox {SANDBOX}",
        "default-src 'none'",
        # A template is a page of the dataset's owner, scripts included. The page that is written says by a random
        # number which scripts are the template's: those of a record that a template shows as HTML do not run.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "script-src-attr 'none'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)

PAGE = """<!doctype html>
<html>
<head><meta charset="utf-8"><title>Custom field</title>
<script>
addEventListener("message", function (event) {
  if (event.source !== parent || !event.data || typeof event.data.html !== "string") return;
  // document.open also removes this listener: the page is written once.
  document.open();
  document.write(event.data.html);
  document.close();
});
</script>
</head>
<body></body>
</html>
"""

COMPONENT_BEFORE = (
    "{props:{content:{type:String,required:!0}},methods:{load:function load(){this.resize()},resize:function resize(){"
    'this.$refs.iframe.style.height=this.$refs.iframe.contentWindow.document.documentElement.scrollHeight+"px"}},'
    'computed:{template:function template(){return"".concat(\'\\n<script>\\nif (parent) {\\n'
    '  const currentHead = document.getElementsByTagName("head")[0];\\n'
    '  const styles = parent.document.getElementsByTagName("style");\\n'
    "  for (const style of styles) {\\n    currentHead.appendChild(style.cloneNode(true));\\n  }\\n"
    "  const links = parent.document.querySelectorAll(\\'link[href$=\".css\"]\\');\\n"
    "  for (const link of links) {\\n    currentHead.appendChild(link.cloneNode(true));\\n  }\\n"
    '  const html = parent.document.getElementsByTagName("html")[0];\\n'
    '  document.getElementsByTagName("html")[0].setAttribute("data-theme", html.getAttribute("data-theme"));\\n'
    "}\\n<\\/script>\\n<style>\\n  body {\\n    background-color: var(--bg-field);\\n  }\\n</style>\\n')"
    ".concat(this.content)}}}"
)
"""The frame's component in the 2.8.0 bundle, to the letter."""

_TELL_HEIGHT = (
    # The height of what is shown: that of the page itself is never less than the frame's. A template that is as high
    # as its frame and a little more would grow for ever.
    "<script>(function(){var told=0,times=0;function tell(){var shown=document.createRange();"
    "shown.selectNodeContents(document.body);var height=Math.ceil(shown.getBoundingClientRect().bottom+scrollY)+16;"
    'if(height!==told&&times<100){told=height;times+=1;parent.postMessage({customFieldHeight:height},"*")}}'
    # The page itself, images of it, scripts that add to it, and a window made narrower.
    'addEventListener("load",tell,true);addEventListener("resize",tell);addEventListener("DOMContentLoaded",function(){'
    "new MutationObserver(tell).observe(document.body,{attributes:!0,characterData:!0,childList:!0,subtree:!0})})"
    "})()<\\/script>"
)

COMPONENT_AFTER = (
    "{props:{content:{type:String,required:!0}},"
    "mounted:function(){var t=this;t.hear=function(e){var f=t.$refs.iframe,h=e.data&&e.data.customFieldHeight;"
    'if(f&&e.source===f.contentWindow&&h>0)f.style.height=Math.min(h,2e4)+"px"};'
    'window.addEventListener("message",t.hear)},'
    'beforeDestroy:function(){window.removeEventListener("message",this.hear)},'
    # The page loads a second time when it has been written: it is told once.
    "methods:{load:function(e){var f=e.target;if(!f.told){f.told=!0;"
    'f.contentWindow.postMessage({html:this.template},"*")}}},'
    # The number is new for each text.
    "computed:{template:function(){var d=document,t=d.documentElement.getAttribute('data-theme')||'',"
    "n=Array.prototype.join.call(crypto.getRandomValues(new Uint32Array(4)),'-');"
    "return'<!doctype html><html data-theme=\"'+t.replace(/[^\\w-]/g,'')+'\"><head>"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src \\'nonce-'+n+'\\' \\'unsafe-eval\\'\">'"
    "+Array.prototype.map.call(d.querySelectorAll('style,link[href$=\".css\"]'),"
    "function(e){return e.outerHTML}).join('')"
    "+('<style>body{background-color:var(--bg-field)}</style>" + _TELL_HEIGHT + "</head><body>'+this.content)"
    # In the record, which is in here too, `<` is escaped: no script of it gets the number.
    ".replace(/<script/gi,'<script nonce=\"'+n+'\"')}}}"
)

FRAME_BEFORE = r'\("iframe",\{ref:"iframe",attrs:\{srcdoc:(\w)\.template,'
FRAME_AFTER = rf'("iframe",{{key:\1.template,ref:"iframe",attrs:{{sandbox:"{SANDBOX}",src:"{PATH}",'
