// Browsers open no Worker from file://. There, this one runs the script in a hidden frame, so that the search works.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      inside.deliver = data => {
        const event = new MessageEvent("message", { data })
        this.dispatchEvent(event)
        this.onmessage?.(event)
      }
      this.ready = new Promise(resolve => { inside.ready = resolve })
      inside.document.open()
      inside.document.write(
        "<script>postMessage = data => deliver(data); importScripts = (...urls) => urls.reduce((before, url) =>" +
        " before.then(() => new Promise((resolve, reject) => { const script = document.createElement('script');" +
        " script.src = url; script.onload = resolve; script.onerror = reject; document.body.append(script) }))," +
        " Promise.resolve())<\/script>" +
        `<script src="${new URL(url, document.baseURI)}" onload="ready()"><\/script>`
      )
      inside.document.close()
      this.inside = inside
      this.frame = frame
    }
    postMessage(data) {
      this.ready.then(() => {
        const event = new MessageEvent("message", { data })
        this.inside.dispatchEvent(event)
        this.inside.onmessage?.(event)
      })
    }
    terminate() { this.frame.remove() }
  }
}
