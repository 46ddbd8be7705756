"""Everyday retail words. The base learns to read them in closed lists, so that it can be tried on other catalogues."""

_WORDS = """
black white grey gray red orange yellow green blue purple pink brown beige navy gold silver cream khaki olive teal
turquoise maroon
Black White Gray Red Orange Yellow Green Blue Purple Pink Brown
cotton wool silk linen leather denim polyester nylon suede velvet rubber plastic metal wood glass ceramic steel paper
bamboo
small medium large tiny huge short long wide narrow thin thick light dark bright soft hard round square flat tall deep
shirt t-shirt tee dress skirt pants trousers shorts jacket coat hoodie sweater sweatshirt blouse top polo blazer vest
tank bra sock shoe boot sandal
sneaker hat cap scarf glove belt tie suit body undershirt outerwear long-sleeve activewear clothing
T-Shirt Shirt Dress Skirt Pants Shorts Jackets Hoodies Sweatshirts Blouse Top Polo Blazer Tanks Tees Bras Hat Hoodie
Outerwear Shoes Body Undershirt
bag backpack handbag wallet purse watch ring necklace lamp chair table sofa bed rug pillow blanket towel curtain
mirror clock vase mug cup plate bowl
fruit vegetables apple banana orange lemon lime pear peach plum mango melon kiwi grape cherry berry strawberry
blueberry pineapple papaya avocado
tomato potato onion carrot garlic ginger pepper cucumber cabbage leek mushroom asparagus zucchini aubergine beet
Apple Banana Orange Lemon Lime Pear Peach Plum Mango Melon Kiwi Pineapple Papaya Avocado Tomato Potato Onion Carrots
Garlic Ginger Pepper Cucumber
juice milk yoghurt cream cheese butter bread rice pasta tea coffee water oat soy sour vanilla natural Juice Milk
Yoghurt Oat Soy Sour Cream
men women kids adult unisex boys girls baby Men Women solid plain pattern striped checked floral color colour brand
size material style type kind
audience gender flavor variety department product product_type produce packaged grocery sleeve neck collar fit length
season occasion finish shape
"""
RETAIL_WORDS = sorted(set(_WORDS.split()))
