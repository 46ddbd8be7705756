"""The labelling page of Label Studio: all photographs of a listing, and beside them the reason and the closed list."""

ANSWER, REASON = "answer", "why"  # the control that a person answers with, and the text that it belongs to

# A photograph is an Image tag, which shows what is put into the task, what Label Studio serves and what lies in a
# bucket. An Image tag shows a picture of another host only if that host allows it (CORS), an <img> shows any. The style
# takes away what Image needs for drawing. `>` is not allowed in a style.
_PAGE = f"""<View>
  <Style>
    .review {{ display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }}
    .photos {{ flex: 3 1 400px; display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 8px; }}
    .photos :has(.photo) {{ display: contents; }}
    .photos div:empty:not(.photo *) {{ display: none; }}
    .photo {{ max-width: 480px; cursor: zoom-in; }}
    .photo:active {{ transform: scale(2); transform-origin: left top; position: relative; z-index: 9; }}
    .photo .lsf-image {{ position: static !important; width: 100% !important; height: auto !important; }}
    .photo img {{ position: static !important; width: 100% !important; height: auto !important; max-height: 60vh;
      clip: auto !important; transform: none !important; object-fit: contain; object-position: left top; }}
    .photo canvas, .photo .lsf-toolbar, .photo [class*="filler"], .photo [class*="image-element"] {{ display: none; }}
    .answer {{ flex: 1 1 220px; position: sticky; top: 0; }}
  </Style>
  <Header value="$question" size="4"/>
  <View className="review">
    <View className="photos">
      <Repeater on="$images" indexFlag="{{{{k}}}}">
        <View className="photo">
          <Image name="photo-{{{{k}}}}" value="$images[{{{{k}}}}]" zoomControl="false" selectionControl="false"/>
        </View>
      </Repeater>
      <Repeater on="$linked" indexFlag="{{{{k}}}}">
        <View className="photo">
          <HyperText name="linked-{{{{k}}}}" value="$linked[{{{{k}}}}]" inline="true"/>
        </View>
      </Repeater>
    </View>
    <View className="answer">
      <Header value="What the model says" size="5"/>
      <Text name="said" value="$said"/>
      <Text name="{REASON}" value="${REASON}"/>
      <Choices name="{ANSWER}" toName="{REASON}" value="$choices" choice="CHOICE" required="true"/>
    </View>
  </View>
</View>
"""


def labelling_page(many: bool) -> str:
    """The labelling interface (XML) for attributes that take one value, or several (`many`)."""
    return _PAGE.replace("CHOICE", "multiple" if many else "single-radio")
